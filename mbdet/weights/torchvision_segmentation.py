"""Key maps of torchvision's segmentation networks on MobileNetV3."""

import re

import torch

from mbdet.weights.origin import TORCHVISION_SEGMENTATION, Origin, Tensors, fixed
from mbdet.weights.torchvision_mobilenet import PARTS, from_v3

BRANCH = re.compile(r"classifier\.0\.convs\.(\d+)\.(\d)\.(\w+)")
LRASPP_HEAD = {
    "classifier.cbr.0": "conv.conv",
    "classifier.cbr.1": "conv.bn",
    "classifier.scale.1": "gate",
    "classifier.low_classifier": "low_classifier",
    "classifier.high_classifier": "high_classifier",
}
DEEPLAB_HEAD = {
    "classifier.0.project.0": "projection.conv",
    "classifier.0.project.1": "projection.bn",
    "classifier.1": "refinements.0.conv",
    "classifier.2": "refinements.0.bn",
    "classifier.4": "classifier",
    "aux_classifier.0": "aux_head.conv.conv",
    "aux_classifier.1": "aux_head.conv.bn",
    "aux_classifier.4": "aux_head.classifier",
}


def is_lraspp(tensors: Tensors) -> bool:
    """Tell whether these are torchvision's names of an LR-ASPP on MobileNetV3."""
    return "backbone.1.block.0.0.weight" in tensors and "classifier.cbr.0.weight" in tensors


def is_deeplabv3(tensors: Tensors) -> bool:
    """Tell whether these are torchvision's names of a DeepLabv3 on MobileNetV3."""
    return "backbone.1.block.0.0.weight" in tensors and "classifier.0.convs.0.0.weight" in tensors


def from_lraspp(tensors: Tensors, num_classes: int) -> Tensors:
    """See `Origin.convert`."""
    return _rename(tensors, num_classes, LRASPP_HEAD)


def from_deeplabv3(tensors: Tensors, num_classes: int) -> Tensors:
    """See `Origin.convert`; the auxiliary head is there if the file has it.

    torchvision joins image pooling after the other branches and mbdet, like Google, before them: the channels that the
    projection reads are turned round accordingly.
    """
    pooling = max((int(match[1]) for match in map(BRANCH.fullmatch, tensors) if match), default=0)
    head = dict(DEEPLAB_HEAD)
    for match in filter(None, map(BRANCH.fullmatch, tensors)):
        branch, index = int(match[1]), int(match[2])
        if branch == pooling:  # the pool itself is 0 there
            ours, index = "image_pooling", index - 1
        else:
            ours = f"aspp.{branch}"
        if str(index) in PARTS:
            head[f"classifier.0.convs.{match[1]}.{match[2]}"] = f"{ours}.{PARTS[str(index)]}"
    state = _rename(tensors, num_classes, head)
    projection = state.get("projection.conv.weight")
    if projection is not None:
        state["projection.conv.weight"] = torch.roll(projection, projection.shape[1] // (pooling + 1), dims=1)
    return state


def _rename(tensors: Tensors, num_classes: int, head: dict[str, str]) -> Tensors:
    """Rename the backbone as a classifier's, and the head's layers as given."""
    features, state = {}, {}
    for name, value in tensors.items():
        layer, _, kind = name.rpartition(".")
        if name.startswith("backbone."):
            features[f"features.{name.removeprefix('backbone.')}"] = value
        else:
            state[f"{head[layer]}.{kind}" if layer in head else name] = value
    return from_v3(features, num_classes) | state


ORIGINS = (
    Origin("torchvision's LR-ASPP weights", is_lraspp, from_lraspp, fixed(TORCHVISION_SEGMENTATION)),
    Origin("torchvision's DeepLabv3 weights", is_deeplabv3, from_deeplabv3, fixed(TORCHVISION_SEGMENTATION)),
)
