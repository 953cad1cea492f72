"""Key maps of slim's MobileNetV1, V2 and V3: classifiers, and the backbones of DeepLab and of detectors."""

import re
from functools import partial

from mbdet.weights.origin import TF, Origin, Tensors, fixed
from mbdet.weights.tf_layers import TFLayers

GENERATIONS = (1, 2, 3)
CLASSES, BACKGROUND = 1000, 0  # ImageNet's, and the slot that slim puts in front of them
LOGITS = "Logits|Conv2d_1c_1x1"


def has_mobilenet(generation: int, tensors: Tensors) -> bool:
    """Tell whether any name lies in the scope of slim's MobileNet of a generation."""
    return any(re.search(rf"(^|[|/])MobilenetV{generation}[|/]", name) for name in tensors)


def take_backbone(layers: TFLayers, generation: int, prefix: str) -> Tensors:
    """Take a backbone out of a file.

    Args:
        layers: What the file holds; what is taken is gone from it.
        generation: 1, 2 or 3.
        prefix: What stands before the names of its layers, with `|` at the end.

    Returns:
        Tensors by our names, with `backbone.` in front.
    """
    names = _v1_names(layers, prefix) if generation == 1 else _inverted_names(layers, prefix)
    state: Tensors = {}
    for ours, theirs in names.items():
        state |= {f"backbone.{ours}.{name}": value for name, value in layers.take_conv_bn(theirs).items()}
    for index in _numbers(layers, f"{prefix}expanded_conv", "squeeze_excite"):
        gate = f"{_numbered(f'{prefix}expanded_conv', index)}|squeeze_excite"
        for ours, theirs in (("reduce", "Conv"), ("expand", "Conv_1")):
            found = layers.take_conv(f"{gate}|{theirs}")
            state |= {f"backbone.blocks.{index}.se.{ours}.{name}": value for name, value in found.items()}
    return state


def leftovers(layers: TFLayers) -> Tensors:
    """Return what nobody took, those of the backbone under `backbone.`, so that the loader reports them."""
    return {
        f"backbone.{name}" if re.search(r"MobilenetV\d\|", name) else name: value
        for name, value in layers.remaining.items()
    }


def from_slim(generation: int, tensors: Tensors, num_classes: int) -> Tensors:
    """See `Origin.convert`; slim's slot of the background is left out for a network with 1000 classes."""
    layers = TFLayers(tensors)
    prefix = f"MobilenetV{generation}|"
    # V3's hidden layer, which has no batch norm, before the backbone can take it for a convolution that lost its own.
    heads = {"hidden": layers.take_linear(f"{prefix}Conv_2"), "logits": layers.take_linear(f"{prefix}{LOGITS}")}
    if num_classes == CLASSES:
        heads["logits"] = {
            name: value[BACKGROUND + 1 :] if len(value) == CLASSES + 1 else value
            for name, value in heads["logits"].items()
        }
    state = {f"{head}.{name}": value for head, found in heads.items() for name, value in found.items()}
    return take_backbone(layers, generation, prefix) | state | leftovers(layers)


def _v1_names(layers: TFLayers, prefix: str) -> dict[str, str]:
    names = {"stem": f"{prefix}Conv2d_0"}
    index = 0
    while layers.has(f"{prefix}Conv2d_{index + 1}_depthwise"):
        for part in ("depthwise", "pointwise"):
            names[f"blocks.{index}.{part}"] = f"{prefix}Conv2d_{index + 1}_{part}"
        index += 1
    return names


def _inverted_names(layers: TFLayers, prefix: str) -> dict[str, str]:
    names = {"stem": f"{prefix}Conv", "last": f"{prefix}Conv_1"}
    for index in _numbers(layers, f"{prefix}expanded_conv", "depthwise"):
        for part in ("expand", "depthwise", "project"):
            names[f"blocks.{index}.{part}"] = f"{_numbered(f'{prefix}expanded_conv', index)}|{part}"
    return names


def _numbered(name: str, index: int) -> str:
    return f"{name}_{index}" if index else name


def _numbers(layers: TFLayers, block: str, part: str) -> list[int]:
    """Return the numbers of the blocks with a part: those in the names, whatever lies between them."""
    pattern = re.compile(rf"{re.escape(block)}(?:_(\d+))?\|{part}\|")
    return sorted({int(match[1] or 0) for match in map(pattern.match, layers.remaining) if match})


ORIGINS = tuple(
    Origin(
        f"TF weights of a MobileNetV{generation}",
        partial(has_mobilenet, generation),
        partial(from_slim, generation),
        fixed(TF),
    )
    for generation in GENERATIONS
)
