"""Key maps of TF Object Detection API detectors: SSD and SSDLite on MobileNetV1, V2 and V3."""

import re
from functools import partial

from torch import Tensor

from mbdet.weights.coco_slots import without_unused
from mbdet.weights.origin import TF, Origin, Tensors, fixed
from mbdet.weights.tf_layers import TFLayers
from mbdet.weights.tf_mobilenet import GENERATIONS, has_mobilenet, leftovers, take_backbone

BRANCHES = {"box_heads": "BoxEncodingPredictor", "class_heads": "ClassPredictor"}


def is_ssd(generation: int, tensors: Tensors) -> bool:
    """Tell whether these are a TF detector on a MobileNet of a generation, with predictors of its own on every map."""
    return has_mobilenet(generation, tensors) and any(re.match(r"BoxPredictor_0[|/]", name) for name in tensors)


def from_ssd(generation: int, tensors: Tensors, num_classes: int) -> Tensors:
    """See `Origin.convert`; for a network with 80 classes the slots that name nothing are left out."""
    layers = TFLayers(tensors)
    prefix = f"FeatureExtractor|MobilenetV{generation}|"
    names = {}
    # An added map is named after the map that all of them follow, its number and its widths.
    pattern = re.compile(rf"({re.escape(prefix)}\w+)_2_Conv2d_(\d+)_3x3_s2_(\d+)\|")
    extras = sorted({match.groups() for match in map(pattern.match, layers.remaining) if match})
    for base, number, width in extras:
        extra = f"extras.{int(number) - 2}"
        reduce = re.compile(rf"({re.escape(base)}_1_Conv2d_{number}_1x1_\d+)\|")  # half the width, or a least one
        matches = filter(None, map(reduce.match, layers.remaining))
        names[f"{extra}.reduce"] = next((match[1] for match in matches), f"{base}_1_Conv2d_{number}_1x1")
        names[f"{extra}.depthwise"] = f"{base}_2_Conv2d_{number}_3x3_s2_{width}_depthwise"
        names[f"{extra}.expand"] = f"{base}_2_Conv2d_{number}_3x3_s2_{width}"
    state = take_backbone(layers, generation, prefix)
    for index in range(len(extras) + 2):
        for ours, theirs in BRANCHES.items():
            names[f"{ours}.{index}.depthwise"] = f"BoxPredictor_{index}|{theirs}_depthwise"
            separable = layers.has(f"BoxPredictor_{index}|{theirs}_depthwise")
            for name, value in layers.take_conv(f"BoxPredictor_{index}|{theirs}").items():
                value = _xy_first(value) if ours == "box_heads" else without_unused(value, num_classes)
                state[f"{ours}.{index}.{'pointwise' if separable else 'conv'}.{name}"] = value
    for ours, layer in names.items():
        state |= {f"{ours}.{name}": value for name, value in layers.take_conv_bn(layer).items()}
    return state | leftovers(layers)


def _xy_first(tensor: Tensor) -> Tensor:
    """Reorder each anchor's ty, tx, th, tw to dx, dy, dw, dh along the output channels."""
    return tensor.reshape(-1, 4, *tensor.shape[1:])[:, [1, 0, 3, 2]].flatten(0, 1)


ORIGINS = tuple(
    Origin(
        f"weights of a TF SSD on MobileNetV{generation}",
        partial(is_ssd, generation),
        partial(from_ssd, generation),
        fixed(TF),
    )
    for generation in GENERATIONS
)
