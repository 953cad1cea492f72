"""Key maps of published MobileNetV2 weights in PyTorch's layout."""

import re

from torch import Tensor

# Names within one block of `features`, nested as in torchvision today and flat as in older files; t = 1 is the first
# block, which has no expansion.
NESTED_FIRST = {"0.0": "depthwise.conv", "0.1": "depthwise.bn", "1": "project.conv", "2": "project.bn"}
NESTED = {
    "0.0": "expand.conv",
    "0.1": "expand.bn",
    "1.0": "depthwise.conv",
    "1.1": "depthwise.bn",
    "2": "project.conv",
    "3": "project.bn",
}
FLAT_FIRST = {"0": "depthwise.conv", "1": "depthwise.bn", "3": "project.conv", "4": "project.bn"}
FLAT = {
    "0": "expand.conv",
    "1": "expand.bn",
    "3": "depthwise.conv",
    "4": "depthwise.bn",
    "6": "project.conv",
    "7": "project.bn",
}
KEY = re.compile(r"features\.(\d+)\.(?:conv\.)?([\d.]+)\.(\w+)")


def is_torchvision(tensors: dict[str, Tensor]) -> bool:
    """Tell whether these are a MobileNetV2 in torchvision's names."""
    return "features.0.0.weight" in tensors and "features.18.0.weight" in tensors


def from_torchvision(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename a torchvision MobileNetV2 to the names of a `Classifier` on `mbdet.backbones.MobileNetV2`."""
    nested = "features.1.conv.0.0.weight" in tensors
    first, rest = (NESTED_FIRST, NESTED) if nested else (FLAT_FIRST, FLAT)
    ends = {"0": "conv", "1": "bn"}
    state = {}
    for name, value in tensors.items():
        if name.startswith("classifier.1."):
            state[f"logits.{name.removeprefix('classifier.1.')}"] = value
            continue
        match = KEY.fullmatch(name)
        if match is None:
            state[f"backbone.{name}"] = value  # an unknown name is reported as not fitting
            continue
        index, part, kind = int(match[1]), match[2], match[3]
        if index in (0, 18):
            layer = f"{'stem' if index == 0 else 'last'}.{ends.get(part, part)}"
        else:
            layer = f"blocks.{index - 1}.{(first if index == 1 else rest).get(part, part)}"
        state[f"backbone.{layer}.{kind}"] = value
    return state
