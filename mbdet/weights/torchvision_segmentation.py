"""Key maps of torchvision's segmentation networks on MobileNetV3."""

import re

import torch
from torch import Tensor

Tensors = dict[str, Tensor]

BLOCK = re.compile(r"backbone\.(\d+)\.block\.(\d+)\.(\w+)\.(\w+)")
END = re.compile(r"backbone\.(\d+)\.([01])\.(\w+)")
BRANCH = re.compile(r"classifier\.0\.convs\.(\d+)\.(\d)\.(\w+)")
PARTS = {"0": "conv", "1": "bn"}
GATE = {"fc1": "se.reduce", "fc2": "se.expand"}
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


def from_lraspp(tensors: Tensors) -> Tensors:
    """Rename torchvision's LR-ASPP as `mbdet.models.LRASPP`.

    A tensor without a place keeps its name, so that the loader reports it.
    """
    return _rename(tensors, LRASPP_HEAD)


def from_deeplabv3(tensors: Tensors) -> Tensors:
    """Rename torchvision's DeepLabv3 as `mbdet.models.DeepLabV3`, auxiliary head included where there is one.

    torchvision joins image pooling after the other branches and mbdet, like Google, before them: the channels that the
    projection reads are turned round accordingly. A tensor without a place keeps its name, so that the loader reports
    it.
    """
    pooling = max((int(match[1]) for match in map(BRANCH.fullmatch, tensors) if match), default=0)
    head = dict(DEEPLAB_HEAD)
    for branch in range(pooling):
        head |= {f"classifier.0.convs.{branch}.{index}": f"aspp.{branch}.{part}" for index, part in PARTS.items()}
    # The pool itself is 0 there.
    head |= {f"classifier.0.convs.{pooling}.{int(i) + 1}": f"image_pooling.{part}" for i, part in PARTS.items()}
    state = _rename(tensors, head)
    projection = state.get("projection.conv.weight")
    if projection is not None:
        state["projection.conv.weight"] = torch.roll(projection, projection.shape[1] // (pooling + 1), dims=1)
    return state


def _rename(tensors: Tensors, head: dict[str, str]) -> Tensors:
    """Rename the backbone, and the head's layers as given. What a block's child is follows from how many there are."""
    children: dict[str, set[int]] = {}
    gates = set()
    for match in map(BLOCK.fullmatch, tensors):
        if match:
            children.setdefault(match[1], set()).add(int(match[2]))
            if match[3] in GATE:
                gates.add((match[1], int(match[2])))
    roles: dict[tuple[str, int], str] = {}
    for block, indices in children.items():
        convs = sorted((index for index in indices if (block, index) not in gates), reverse=True)
        # Two without an expansion, three with it.
        roles |= {(block, i): role for i, role in zip(convs, ("project", "depthwise", "expand"), strict=False)}
    state: Tensors = {}
    for name, value in tensors.items():
        layer, _, kind = name.rpartition(".")
        if match := BLOCK.fullmatch(name):
            block, child, part, _ = match.groups()
            inner = GATE.get(part) or f"{roles.get((block, int(child)), child)}.{PARTS.get(part, part)}"
            state[f"backbone.blocks.{int(block) - 1}.{inner}.{kind}"] = value
        elif match := END.fullmatch(name):
            state[f"backbone.{'stem' if match[1] == '0' else 'last'}.{PARTS[match[2]]}.{kind}"] = value
        else:
            state[f"{head[layer]}.{kind}" if layer in head else name] = value
    return state
