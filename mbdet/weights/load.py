"""Loading weights of any known origin into a network, completely or not at all."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from mbdet.backbones.base import Backbone
from mbdet.backbones.blocks import Padding, SameConv2d
from mbdet.errors import InputError
from mbdet.models import Classifier, Network
from mbdet.models.classifier import ACTIVATIONS, HiddenAct
from mbdet.weights.published import resolve
from mbdet.weights.read import Weights, read_weights


def load_weights(network: Network, source: str | Path) -> None:
    """Load all weights of a network.

    Args:
        network: Changed in place; its normalisation is set to that of the weights. If it has no auxiliary head, that
            of the weights is left out.
        source: A file, see `mbdet.weights.files.read_tensors`, or a published name; of mbdet, torchvision, timm, slim
            or the TF Object Detection API.

    Raises:
        InputError: If the weights are not for this network, with the names that do not fit. The network is unchanged.
    """
    weights = read_weights(resolve(str(source)), network.num_classes)
    heads = {name.partition(".")[0] for name in network.state_dict()} - {"backbone"}
    if not any(name.partition(".")[0] in heads for name in weights.state):
        raise InputError(
            f"{source}: {weights.name} are not those of a whole {network.kind}; to start a training from them, give"
            " them as --model.backbone_weights"
        )
    _check_hidden_act(network, weights, source)
    if "aux_head" not in heads:
        state = {name: value for name, value in weights.state.items() if not name.startswith("aux_head.")}
        weights = replace(weights, state=state)
    _load(network, weights, source)


def load_backbone_weights(backbone: Backbone, source: str | Path) -> None:
    """Load a backbone's weights from a file of it alone or of any model that contains it.

    Args:
        backbone: Changed in place; its normalisation is set to that of the weights. If it ends before the last
            convolution, that one's weights are left out.
        source: As for `load_weights`.

    Raises:
        InputError: As `load_weights`.
    """
    weights = read_weights(resolve(str(source)))
    state = {n.removeprefix("backbone."): v for n, v in weights.state.items() if n.startswith("backbone.")}
    state = state or weights.state
    if not any(name.startswith("last.") for name in backbone.state_dict()):
        state = {name: value for name, value in state.items() if not name.startswith("last.")}
    _load(backbone, replace(weights, state=state), source)


def _check_hidden_act(network: Network, weights: Weights, source: str | Path) -> None:
    """Refuse another activation of V3's hidden layer than the weights', which no name or shape tells."""
    found = hidden_act_of(network)
    if None not in (weights.hidden_act, found) and weights.hidden_act != found:
        raise InputError(f"{source}: {weights.name} need hidden_act: {weights.hidden_act}, the network has {found}")


def _load(module: nn.Module, weights: Weights, source: str | Path) -> None:
    needs: list[tuple[str, object, str, set[Any]]] = [("padding", weights.padding, "throughout", paddings_of(module))]
    if weights.head_bn_eps is None or not isinstance(module, Network):
        needs.append(("bn_eps", weights.bn_eps, "throughout", bn_eps_of(module)))
    else:
        needs.append(("bn_eps", weights.bn_eps, "in the backbone", bn_eps_of(module.backbone)))
        needs.append(("bn_eps", weights.head_bn_eps, "in the heads", head_bn_eps_of(module)))
    for name, needed, where, found in needs:
        if needed is not None and found - {needed}:
            listed = " and ".join(map(str, sorted(found)))
            raise InputError(f"{source}: {weights.name} need {name}: {needed} {where}, the network has {listed}")
    expected = module.state_dict()
    counters = {name for name in expected if name.endswith("num_batches_tracked")}  # TF has none; nothing reads them
    missing = sorted(set(expected) - set(weights.state) - counters)
    unexpected = sorted(set(weights.state) - set(expected))
    shapes = [
        f"{name} is {tuple(value.shape)}, not {tuple(expected[name].shape)}"
        for name, value in weights.state.items()
        if name in expected and value.shape != expected[name].shape
    ]
    if missing or unexpected or shapes:
        wrong = [("missing", missing), ("not in the network", unexpected), ("of another shape", shapes)]
        listed = "; ".join(f"{len(names)} {what}: {_shorten(names)}" for what, names in wrong if names)
        raise InputError(
            f"{source}: {weights.name} do not fit this network: {listed}. Check its config and num_classes"
        )
    module.load_state_dict(weights.state, strict=False)


def _shorten(names: list[str], limit: int = 8) -> str:
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")


def paddings_of(module: nn.Module) -> set[Padding]:
    """Return how the strided convolutions of a network pad; a single way, if it was built consistently."""
    strided = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d) and layer.stride != (1, 1)]
    return {"same" if isinstance(layer, SameConv2d) else "symmetric" for layer in strided}


def bn_eps_of(module: nn.Module) -> set[float]:
    """Return the constants of a network's batch norms; a single one, if it was built consistently."""
    return {layer.eps for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)}


def head_bn_eps_of(network: Network) -> set[float]:
    """Return the constants of the batch norms outside the backbone; empty if there are none."""
    inner = set(network.backbone.modules())
    return {layer.eps for layer in network.modules() if isinstance(layer, nn.BatchNorm2d) and layer not in inner}


def hidden_act_of(network: Network) -> HiddenAct | None:
    """Return the activation between pool and logits; None if there is no such layer."""
    if not isinstance(network, Classifier):
        return None
    return next((name for name, layer in ACTIVATIONS.items() if isinstance(network.act, layer)), None)
