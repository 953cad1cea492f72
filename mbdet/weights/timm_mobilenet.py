"""Key maps of timm's MobileNetV1, V2 and V3, and what its hub files say of themselves."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from mbdet.backbones.blocks import Padding
from mbdet.errors import InputError
from mbdet.weights.origin import TF, TIMM, TIMM_V1, Convention, Origin, Tensors
from mbdet.weights.published import published_file

KEY = re.compile(r"blocks\.(\d+)\.(\d+)\.(.+)\.(\w+)")
SEPARABLE = {"conv_dw": "depthwise.conv", "bn1": "depthwise.bn"}
V1_BLOCK = {**SEPARABLE, "conv_pw": "pointwise.conv", "bn2": "pointwise.bn"}
FIRST_BLOCK = {**SEPARABLE, "conv_pw": "project.conv", "bn2": "project.bn"}
INVERTED = {
    "conv_pw": "expand.conv",
    "bn1": "expand.bn",
    "conv_dw": "depthwise.conv",
    "bn2": "depthwise.bn",
    "conv_pwl": "project.conv",
    "bn3": "project.bn",
}
GATE = {"se.conv_reduce": "se.reduce", "se.conv_expand": "se.expand"}
ENDS = {"conv_stem": "backbone.stem.conv", "bn1": "backbone.stem.bn", "classifier": "logits"}
LAST = {"conv_head": "backbone.last.conv", "bn2": "backbone.last.bn"}
V3_LAST = {"conv": "backbone.last.conv", "bn1": "backbone.last.bn"}


def is_timm(tensors: Tensors) -> bool:
    """Tell whether these are timm's names of a MobileNet: no other family begins with a separable block like this."""
    return "conv_stem.weight" in tensors and "blocks.0.0.conv_dw.weight" in tensors


def is_v1(tensors: Tensors) -> bool:
    """Tell V1, which projects nothing, by that."""
    return is_timm(tensors) and not any(".conv_pwl." in name for name in tensors)


def is_v3(tensors: Tensors) -> bool:
    """Tell V3, whose last convolution stands among the blocks, by that."""
    return is_timm(tensors) and any(re.fullmatch(r"blocks\.\d+\.0\.conv\.weight", name) for name in tensors)


def is_v2(tensors: Tensors) -> bool:
    """Tell V2 by being neither."""
    return is_timm(tensors) and not is_v1(tensors) and not is_v3(tensors)


def from_v1(tensors: Tensors, num_classes: int) -> Tensors:
    """See `Origin.convert`."""
    return _rename(tensors, V1_BLOCK, ENDS | LAST)


def from_v2(tensors: Tensors, num_classes: int) -> Tensors:
    """See `Origin.convert`."""
    return _rename(tensors, FIRST_BLOCK, ENDS | LAST)


def from_v3(tensors: Tensors, num_classes: int) -> Tensors:
    """See `Origin.convert`.

    Raises:
        InputError: For `mobilenetv3_rw`, whose first block adds no input where everybody's does: the shapes would fit.
    """
    if "conv_head.weight" in tensors and "conv_head.bias" not in tensors:
        raise InputError(
            "these weights are timm's mobilenetv3_rw, whose first block is not MobileNetV3's; take its"
            " mobilenetv3_large_100"
        )
    state = _rename(tensors, FIRST_BLOCK, ENDS | {"conv_head": "hidden"})
    if "hidden.weight" in state:
        state["hidden.weight"] = state["hidden.weight"].flatten(1)  # a 1x1 convolution after the pool
    return state


def _rename(tensors: Tensors, separable: dict[str, str], ends: dict[str, str]) -> Tensors:
    matches = {name: match for name in tensors if (match := KEY.fullmatch(name))}
    inverted = {(match[1], match[2]) for match in matches.values() if match[3] == "conv_pwl"}
    last = {(match[1], match[2]) for match in matches.values() if match[3] == "conv"}
    blocks = sorted({(int(match[1]), int(match[2])) for match in matches.values()})
    numbers = {(str(stage), str(repeat)): number for number, (stage, repeat) in enumerate(blocks)}
    state = {}
    for name, value in tensors.items():
        match = matches.get(name)
        if match is None:
            layer, _, kind = name.rpartition(".")
            state[f"{ends.get(layer, f'backbone.{layer}')}.{kind}"] = value
            continue
        place = (match[1], match[2])
        if place in last:
            layer = V3_LAST.get(match[3], f"backbone.{name}")
        else:
            parts = (INVERTED if place in inverted else separable) | GATE
            layer = f"backbone.blocks.{numbers[place]}.{parts.get(match[3], match[3])}"
        state[f"{layer}.{match[4]}"] = value
    return state


def hub_convention(path: Path) -> Convention | None:
    """Read what timm's hub writes beside its weights.

    Args:
        path: A weight file.

    Returns:
        The convention of the architecture in `config.json`, or None if there is no such file.

    Raises:
        InputError: If the file is not timm's.
    """
    config = path.with_name("config.json")
    if not config.is_file():
        return None
    try:
        content = json.loads(config.read_text())
        name, options = content["architecture"], content.get("model_args") or {}
        mean, std = (_rgb(content["pretrained_cfg"][key]) for key in ("mean", "std"))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{config}: not a config of timm's hub; move it away from {path.name}") from error
    # The `tf_` models pass these themselves; the others leave them at timm's defaults.
    common = TF if str(name).startswith("tf_") else TIMM
    padding: Padding = "same" if options.get("pad_type") == "same" else common.padding
    return Convention(padding, float(options.get("bn_eps", common.bn_eps)), mean, std)


def _rgb(values: Sequence[float]) -> tuple[float, ...]:
    """Scale three numbers from [0, 1] to [0, 255]."""
    if len(values) != 3:
        raise ValueError(f"{values} are not three numbers")
    return tuple(255.0 * float(x) for x in values)


def v1_convention(path: Path) -> Convention:
    """Return what the hub's config says, or the one recipe that all of timm's V1 share."""
    return hub_convention(path) or TIMM_V1


def v2_convention(path: Path) -> Convention:
    """Return what the hub's config says, or the one recipe that all of timm's V2 share."""
    return hub_convention(path) or TIMM


def v3_convention(path: Path) -> Convention:
    """Return what the hub's config says, or our table if the file is in it by its checksum.

    Raises:
        InputError: If neither knows: timm's V3 have two paddings and three normalisations, and the same names.
    """
    convention = hub_convention(path)
    if convention is None:
        weights = published_file(path)
        if weights is None:
            raise InputError(
                f"{path}: timm's MobileNetV3 weights do not say how they pad and normalise; put the config.json of"
                " their hub page beside them, or give a published name (mbdet weights list)"
            )
        convention = weights.convention
    return convention


ORIGINS = (
    Origin("timm's MobileNetV1 weights", is_v1, from_v1, v1_convention),
    Origin("timm's MobileNetV2 weights", is_v2, from_v2, v2_convention),
    Origin("timm's MobileNetV3 weights", is_v3, from_v3, v3_convention),
)
