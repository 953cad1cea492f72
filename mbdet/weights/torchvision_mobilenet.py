"""Key maps of torchvision's MobileNetV2 and V3."""

import re

from mbdet.weights.origin import TORCHVISION_V2, TORCHVISION_V3, Origin, Tensors, fixed

# Names within one block of V2's `features`, nested as in torchvision today and flat as in older files; t = 1 is the
# first block, which has no expansion.
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
GATE = {"fc1": "se.reduce", "fc2": "se.expand"}
PARTS = {"0": "conv", "1": "bn"}
V2_KEY = re.compile(r"features\.(\d+)\.(?:conv\.)?([\d.]+)\.(\w+)")
V3_BLOCK = re.compile(r"features\.(\d+)\.block\.(\d+)\.(\w+)\.(\w+)")
V3_END = re.compile(r"features\.(\d+)\.([01])\.(\w+)")
V2_HEAD = {"classifier.1": "logits"}
V3_HEAD = {"classifier.0": "hidden", "classifier.3": "logits"}


def is_v2(tensors: Tensors) -> bool:
    """Tell whether these are torchvision's names of a MobileNetV2."""
    return "features.0.0.weight" in tensors and "features.18.0.weight" in tensors


def is_v3(tensors: Tensors) -> bool:
    """Tell whether these are torchvision's names of a MobileNetV3."""
    return "features.0.0.weight" in tensors and "features.1.block.0.0.weight" in tensors


def from_v2(tensors: Tensors, num_classes: int) -> Tensors:
    """See `Origin.convert`."""
    nested = "features.1.conv.0.0.weight" in tensors
    first, rest = (NESTED_FIRST, NESTED) if nested else (FLAT_FIRST, FLAT)
    state = {}
    for name, value in tensors.items():
        match = V2_KEY.fullmatch(name)
        if match is None:
            state[_head(name, V2_HEAD)] = value
            continue
        index, part, kind = int(match[1]), match[2], match[3]
        if index in (0, 18):
            layer = f"{'stem' if index == 0 else 'last'}.{PARTS.get(part, part)}"
        else:
            layer = f"blocks.{index - 1}.{(first if index == 1 else rest).get(part, part)}"
        state[f"backbone.{layer}.{kind}"] = value
    return state


def from_v3(tensors: Tensors, num_classes: int) -> Tensors:
    """See `Origin.convert`. Which of a block's children is what follows from how many there are."""
    children: dict[str, set[int]] = {}
    gates = set()
    for match in map(V3_BLOCK.fullmatch, tensors):
        if match:
            children.setdefault(match[1], set()).add(int(match[2]))
            if match[3] == "fc1":
                gates.add((match[1], int(match[2])))
    roles: dict[tuple[str, int], str] = {}
    for block, indices in children.items():
        convs = sorted(index for index in indices if (block, index) not in gates)
        # Two without an expansion, three with it.
        for index, role in zip(reversed(convs), ("project", "depthwise", "expand"), strict=False):
            roles[block, index] = role
    state = {}
    for name, value in tensors.items():
        block_match, end_match = V3_BLOCK.fullmatch(name), V3_END.fullmatch(name)
        if block_match:
            block, child, part, kind = block_match.groups()
            role = roles.get((block, int(child)), child)
            inner = GATE.get(part) or f"{role}.{PARTS.get(part, part)}"
            state[f"backbone.blocks.{int(block) - 1}.{inner}.{kind}"] = value
        elif end_match:
            state[f"backbone.{'last' if int(end_match[1]) else 'stem'}.{PARTS[end_match[2]]}.{end_match[3]}"] = value
        else:
            state[_head(name, V3_HEAD)] = value
    return state


def _head(name: str, layers: dict[str, str]) -> str:
    layer, _, kind = name.rpartition(".")
    if layer in layers:
        return f"{layers[layer]}.{kind}"
    return f"backbone.{name}" if name.startswith("features.") else name


ORIGINS = (
    Origin("torchvision's MobileNetV2 weights", is_v2, from_v2, fixed(TORCHVISION_V2)),
    Origin("torchvision's MobileNetV3 weights", is_v3, from_v3, fixed(TORCHVISION_V3)),
)
