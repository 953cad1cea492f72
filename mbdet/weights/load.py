"""Loading weights of any known origin into a network, completely or not at all."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from mbdet.backbones.base import IMAGENET_MEAN, IMAGENET_STD, TF_MEAN, TF_STD, Backbone, Normalize
from mbdet.backbones.blocks import Padding, SameConv2d
from mbdet.errors import InputError
from mbdet.models import Network
from mbdet.weights.files import read_tensors
from mbdet.weights.mobilenet_v2 import from_torchvision, is_torchvision
from mbdet.weights.published import resolve
from mbdet.weights.tf_object_detection import from_tf_ssdlite, is_tf_ssdlite


@dataclass(frozen=True)
class _Origin:
    """A state dict in our names, and what the network must be like for it to mean the same."""

    state: dict[str, Tensor]
    name: str
    padding: Padding | None = None
    bn_eps: float | None = None


def load_weights(network: Network, source: str | Path) -> None:
    """Load all weights of a network.

    Args:
        network: Changed in place; its normalisation is set to that of the weights.
        source: A checkpoint, state dict, safetensors or npz file, or a published name; of mbdet, of
            torchvision (the MobileNetV2 classifier) or of the TF Object Detection API (SSDLite on MobileNetV2).

    Raises:
        InputError: If the weights are not for this network, with the names that do not fit. The network is unchanged.
    """
    path = resolve(str(source))
    origin = _read(path, network)
    heads = {name.partition(".")[0] for name in network.state_dict()} - {"backbone"}
    if not any(name.partition(".")[0] in heads for name in origin.state):
        raise InputError(
            f"{source}: {origin.name} are not those of a whole {network.kind}; to start a training from them, give them"
            " as --model.backbone_weights"
        )
    _load(network, origin, source)


def load_backbone_weights(backbone: Backbone, source: str | Path) -> None:
    """Load a backbone's weights from a file of it alone or of any model that contains it.

    Args:
        backbone: Changed in place; its normalisation is set to that of the weights.
        source: As for `load_weights`.

    Raises:
        InputError: As `load_weights`.
    """
    path = resolve(str(source))
    origin = _read(path, backbone)
    inner = {name.removeprefix("backbone."): v for name, v in origin.state.items() if name.startswith("backbone.")}
    _load(backbone, _Origin(inner or origin.state, origin.name, origin.padding, origin.bn_eps), source)


def _read(path: Path, module: nn.Module) -> _Origin:
    tensors = read_tensors(path)
    if is_torchvision(tensors):
        state = _with_normalization(from_torchvision(tensors), "backbone.", IMAGENET_MEAN, IMAGENET_STD)
        return _Origin(state, "torchvision's MobileNetV2 weights", "symmetric", 1e-5)
    if is_tf_ssdlite(tensors):
        state = from_tf_ssdlite(tensors, getattr(module, "num_classes", 0), 1e-3)
        state = _with_normalization(state, "backbone.", TF_MEAN, TF_STD)
        return _Origin(state, "weights of a TF SSDLite on MobileNetV2", "same", 1e-3)
    # Lightning puts the attribute's name in front.
    return _Origin({name.removeprefix("network."): value for name, value in tensors.items()}, "its weights")


def _with_normalization(
    state: dict[str, Tensor], prefix: str, mean: tuple[float, ...], std: tuple[float, ...]
) -> dict[str, Tensor]:
    buffers = Normalize(mean, std).state_dict()
    return state | {f"{prefix}normalize.{name}": value for name, value in buffers.items()}


def _load(module: nn.Module, origin: _Origin, source: str | Path) -> None:
    for name, needed, found in (
        ("padding", origin.padding, _paddings(module)),
        ("bn_eps", origin.bn_eps, _bn_eps(module)),
    ):
        if needed is not None and found != {needed}:
            listed = " and ".join(map(str, sorted(found)))
            raise InputError(f"{source}: {origin.name} need {name}: {needed} throughout, the network has {listed}")
    expected = module.state_dict()
    counters = {name for name in expected if name.endswith("num_batches_tracked")}  # TF has none; nothing reads them
    missing = sorted(set(expected) - set(origin.state) - counters)
    unexpected = sorted(set(origin.state) - set(expected))
    shapes = [
        f"{name} is {tuple(value.shape)}, not {tuple(expected[name].shape)}"
        for name, value in origin.state.items()
        if name in expected and value.shape != expected[name].shape
    ]
    if missing or unexpected or shapes:
        wrong = [("missing", missing), ("not in the network", unexpected), ("of another shape", shapes)]
        listed = "; ".join(f"{len(names)} {what}: {_shorten(names)}" for what, names in wrong if names)
        raise InputError(f"{source}: {origin.name} do not fit this network: {listed}. Check its config and num_classes")
    module.load_state_dict(origin.state, strict=False)


def _shorten(names: list[str], limit: int = 8) -> str:
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")


def _paddings(module: nn.Module) -> set[Padding]:
    strided = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d) and layer.stride != (1, 1)]
    return {"same" if isinstance(layer, SameConv2d) else "symmetric" for layer in strided}


def _bn_eps(module: nn.Module) -> set[float]:
    return {layer.eps for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)}
