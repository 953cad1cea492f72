"""Reading weights of any known origin, in our names."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from mbdet.backbones.base import Normalize
from mbdet.backbones.blocks import Padding
from mbdet.errors import InputError, first_line
from mbdet.models.classifier import HiddenAct
from mbdet.weights import (
    tf_deeplab,
    tf_mobilenet,
    tf_object_detection,
    timm_mobilenet,
    torchvision_mobilenet,
    torchvision_segmentation,
    torchvision_ssdlite,
)
from mbdet.weights.files import read_metadata, read_tensors
from mbdet.weights.origin import Origin, Tensors

# In this order: a detector or a segmenter holds its backbone's names too.
ORIGINS: tuple[Origin, ...] = (
    *torchvision_ssdlite.ORIGINS,
    *torchvision_segmentation.ORIGINS,
    *torchvision_mobilenet.ORIGINS,
    *timm_mobilenet.ORIGINS,
    *tf_object_detection.ORIGINS,
    *tf_deeplab.ORIGINS,
    *tf_mobilenet.ORIGINS,
)


OWN = "its weights"


@dataclass(frozen=True)
class Weights:
    """Tensors in our names, and what a network must be like for them to mean the same.

    Args:
        state: The tensors, the normalisation among them.
        name: Whose they are, as a plural.
        padding: Of the network; None if nobody wrote it down.
        bn_eps: Likewise; of the backbone alone if `head_bn_eps` is another.
        head_bn_eps: Of the heads; None if nobody wrote it down, or it is the backbone's.
        hidden_act: Of the layer between pool and logits, which no name or shape tells; None if there is no such layer,
            or nobody wrote it down.
    """

    state: Tensors
    name: str
    padding: Padding | None = None
    bn_eps: float | None = None
    head_bn_eps: float | None = None
    hidden_act: HiddenAct | None = None

    def normalization(self, name: str) -> list[float] | None:
        """Return the RGB `mean` or `std` in [0, 255], if the weights hold one."""
        value = self.state.get(f"backbone.normalize.{name}", self.state.get(f"normalize.{name}"))
        return None if value is None else [round(x, 3) for x in value.flatten().tolist()]


def read_weights(path: Path, num_classes: int = 0) -> Weights:
    """Read a file and give its tensors our names.

    Args:
        path: A weight file, see `read_tensors`.
        num_classes: K of the network that they are for, see `Origin.convert`.

    Raises:
        InputError: If the file cannot be read, or is known not to fit any network of ours.
    """
    tensors = read_tensors(path)
    for origin in ORIGINS:
        if origin.recognise(tensors):
            convention = origin.convention(path)
            try:
                state = origin.convert(tensors, num_classes)
            except InputError as error:
                raise InputError(f"{path}: {error}") from error
            except (ValueError, RuntimeError, LookupError) as error:  # a tensor of a shape that no network has
                raise InputError(
                    f"{path}: named as {origin.name}, but not shaped like them ({first_line(error)}); fetch or write it"
                    " again"
                ) from error
            normalize = Normalize(convention.mean, convention.std).state_dict()
            state |= {f"backbone.normalize.{name}": value for name, value in normalize.items()}
            return Weights(
                state,
                origin.name,
                convention.padding,
                convention.bn_eps,
                convention.head_bn_eps,
                everybodys_hidden_act(state),
            )
    # Ours. Lightning puts the attribute's name in front.
    state = {name.removeprefix("network."): value for name, value in tensors.items()}
    metadata = read_metadata(path)
    padding, hidden_act = metadata.get("padding"), metadata.get("hidden_act")
    try:
        for value, known in ((padding, get_args(Padding)), (hidden_act, get_args(HiddenAct))):
            if value not in (*known, None):
                raise ValueError(value)
        bn_eps, head_bn_eps = (float(metadata[key]) if key in metadata else None for key in ("bn_eps", "head_bn_eps"))
    except ValueError as error:
        raise InputError(
            f"{path}: its metadata says {error}, which is no padding or bn_eps or hidden_act; write it again"
        ) from error
    return Weights(state, OWN, cast(Padding | None, padding), bn_eps, head_bn_eps, cast(HiddenAct | None, hidden_act))


def everybodys_hidden_act(state: Tensors) -> HiddenAct | None:
    """Return the activation that everybody's MobileNetV3 has after its hidden layer; None if there is no such layer."""
    if "hidden.weight" not in state:
        return None
    return "hard_swish" if any(".se." in name for name in state) else "relu"  # the minimalistic variants are not gated


def places(weights: Weights) -> Tensors:
    """Return the tensors that have a place in a network of ours; what is left of others' names has none."""
    return {name: value for name, value in weights.state.items() if re.fullmatch(r"[a-z_]+(\.\w+)+", name)}


def notes(weights: Weights) -> dict[str, str]:
    """Return what `read_weights` needs to know of a file in our names, as its metadata."""
    pairs: dict[str, object] = {
        "origin": weights.name,
        "padding": weights.padding,
        "bn_eps": weights.bn_eps,
        "head_bn_eps": weights.head_bn_eps,
        "hidden_act": weights.hidden_act,
    }
    pairs |= {name: weights.normalization(name) for name in ("mean", "std")}
    return {name: str(value) for name, value in pairs.items() if value is not None}
