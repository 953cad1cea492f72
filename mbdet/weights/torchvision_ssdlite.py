"""Key map of torchvision's SSDLite on MobileNetV3."""

import re

from mbdet.weights.coco_slots import without_unused
from mbdet.weights.origin import TORCHVISION_SSDLITE, Origin, Tensors, fixed
from mbdet.weights.torchvision_mobilenet import PARTS, from_v3

FEATURES = re.compile(r"backbone\.features\.([01])\.(\d+)\.(.+)")
EXTRA = re.compile(r"backbone\.extra\.(\d+)\.([012])\.([01])\.(\w+)")
HEAD = re.compile(r"head\.(classification|regression)_head\.module_list\.(\d+)\.(0\.[01]|1)\.(\w+)")
EXTRA_PARTS = ("reduce", "depthwise", "expand")
HEADS = {"classification": "class_heads", "regression": "box_heads"}


def is_ssdlite(tensors: Tensors) -> bool:
    """Tell whether these are torchvision's names of an SSDLite on MobileNetV3."""
    return (
        "backbone.features.0.1.block.0.0.weight" in tensors
        and "head.classification_head.module_list.0.0.0.weight" in tensors
    )


def from_ssdlite(tensors: Tensors, num_classes: int) -> Tensors:
    """See `Origin.convert`.

    The first map is cut out of the middle of a block, `features.0` ending with its expansion, and `features.1`
    beginning with what follows it there.
    """
    matches = [match for match in map(FEATURES.fullmatch, tensors) if match]
    tapped = max(int(match[2]) for match in matches if match[1] == "0")
    features, state = {}, {}
    for name, value in tensors.items():
        if match := FEATURES.fullmatch(name):
            half, index, inner = int(match[1]), int(match[2]), match[3]
            if half == 0:
                block = f"{index}.block.0" if index == tapped else f"{index}"
            else:
                block = f"{tapped}.block" if index == 0 else f"{tapped + index}"
            features[f"features.{block}.{inner}"] = value
        elif match := EXTRA.fullmatch(name):
            state[f"extras.{match[1]}.{EXTRA_PARTS[int(match[2])]}.{PARTS[match[3]]}.{match[4]}"] = value
        elif match := HEAD.fullmatch(name):
            part = "pointwise" if match[3] == "1" else f"depthwise.{PARTS[match[3][-1]]}"
            if part == "pointwise" and match[1] == "classification":
                value = without_unused(value, num_classes)
            state[f"{HEADS[match[1]]}.{match[2]}.{part}.{match[4]}"] = value
        else:
            state[name] = value
    return from_v3(features, num_classes) | state


ORIGINS = (Origin("torchvision's SSDLite-MobileNetV3 weights", is_ssdlite, from_ssdlite, fixed(TORCHVISION_SSDLITE)),)
