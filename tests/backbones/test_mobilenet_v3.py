"""MobileNetV3 against the papers' tables."""

import pytest
import torch
from torch import nn

from mbdet.backbones import MobileNetV3
from mbdet.backbones.base import Normalize
from mbdet.cost import count_parameters


@pytest.mark.parametrize(
    ("min_channels", "widths", "expanded"), [(8, [8, 8, 8, 8, 16], [8, 32, 24]), (16, [16] * 5, [16, 64, 48])]
)
def test_narrowest_width_of_the_tf_detectors(min_channels: int, widths: list[int], expanded: list[int]) -> None:
    """No output is narrower than 16 there; what expands it follows, and so do gates."""
    with torch.device("meta"):
        network = MobileNetV3(width_mult=0.35, min_channels=min_channels)
        tiny = MobileNetV3("small", width_mult=0.01, min_channels=min_channels)
    assert [layer.out_channels for layer in (network.stem.conv, *network.blocks[:4])] == widths
    assert [block.expanded_channels for block in network.blocks[:3]] == expanded
    assert tiny.specs["c5"].channels == min_channels
    assert tiny.blocks[0].se.reduce.out_channels == 8


def test_torchvision_rounds_other_widths() -> None:
    with torch.device("meta"):
        network = MobileNetV3(width_mult=0.75, rounding="torchvision")
        assert [block.expanded_channels for block in network.blocks[3:6]] == [56, 88, 88]
        assert count_parameters(network) + 720 * 960 + 960 + 960 * 1000 + 1000 == 3_377_576
    with torch.device("meta"):
        one, other = MobileNetV3(), MobileNetV3(rounding="torchvision")
    assert [block.expanded_channels for block in one.blocks] == [block.expanded_channels for block in other.blocks]


@pytest.mark.parametrize(
    ("variant", "rows", "last"),
    [
        (
            "large",
            [
                (16, 16, 16), (16, 64, 24), (24, 72, 24), (24, 72, 32), (32, 96, 32), (32, 96, 32), (32, 192, 64),
                (64, 160, 64), (64, 144, 64), (64, 144, 64), (64, 384, 88), (88, 528, 88), (88, 528, 120),
                (120, 720, 120), (120, 720, 120),
            ],
            720,
        ),
        (
            "small",
            [
                (16, 16, 16), (16, 72, 24), (24, 88, 24), (24, 96, 32), (32, 192, 32), (32, 192, 32), (32, 96, 40),
                (40, 120, 40), (40, 240, 72), (72, 432, 72), (72, 432, 72),
            ],
            432,
        ),
    ],
)  # fmt: skip
def test_widths_at_three_quarters(variant: str, rows: list[tuple[int, int, int]], last: int) -> None:
    with torch.device("meta"):
        network = MobileNetV3(variant, width_mult=0.75)
    inputs = [network.stem.conv.out_channels, *(block.out_channels for block in network.blocks)]
    found = [
        (channels, block.expanded_channels, block.out_channels)
        for channels, block in zip(inputs, network.blocks, strict=False)
    ]
    assert found == rows
    assert network.specs["c5"].channels == last


@pytest.mark.parametrize(
    ("variant", "tail", "rows", "last"),
    [
        ("large", "detection", [(672, 80, 168), (480, 80, 120), (480, 80, 120)], 480),
        ("large", "segmentation", [(336, 80, 88), (480, 80, 120), (480, 80, 120)], 480),
        ("small", "detection", [(288, 48, 72), (288, 48, 72), (288, 48, 72)], 288),
        ("small", "segmentation", [(144, 48, 40), (288, 48, 72), (288, 48, 72)], 288),
    ],
)
def test_reduced_tails_differ(variant: str, tail: str, rows: list[tuple[int, int, int]], last: int) -> None:
    with torch.device("meta"):
        network = MobileNetV3(variant, reduced_tail=tail)
        full = MobileNetV3(variant)
    found = [
        (block.expanded_channels, block.out_channels, block.se.reduce.out_channels) for block in network.blocks[-3:]
    ]
    assert found == rows
    assert network.specs["c5"].channels == last
    shapes = [{name: value.shape for name, value in net.blocks[:-3].state_dict().items()} for net in (network, full)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("variant", ["large", "small"])
def test_squeeze_widths_are_a_quarter_of_the_expansion(variant: str) -> None:
    """The squeeze column of the tables, which the papers leave to the code."""
    expected = {"large": [24, 32, 32, 120, 168, 168, 240, 240], "small": [8, 24, 64, 64, 32, 40, 72, 144, 144]}
    with torch.device("meta"):
        network = MobileNetV3(variant)
    gates = [block.se for block in network.blocks if not isinstance(block.se, nn.Identity)]
    assert [gate.reduce.out_channels for gate in gates] == expected[variant]


@pytest.mark.parametrize("variant", ["large", "small"])
def test_the_minimalistic_variant_has_plain_operators_only(variant: str) -> None:
    with torch.device("meta"):
        network = MobileNetV3(variant, minimalistic=True)
    convs = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert {conv.kernel_size for conv in convs} == {(1, 1), (3, 3)}
    assert all(conv.bias is None for conv in convs)
    kinds = {type(layer) for layer in network.modules() if not list(layer.children())}
    assert kinds == {Normalize, nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Identity}


@pytest.mark.parametrize(("dilation", "rates"), [("google", [1, 2, 2]), ("torchvision", [2, 2, 2])])
def test_dilation_conventions(dilation: str, rates: list[int]) -> None:
    with torch.device("meta"):
        network = MobileNetV3(output_stride=16, dilation=dilation)
    tail = [block.depthwise.conv for block in network.blocks[-3:]]
    assert [conv.stride for conv in tail] == [(1, 1)] * 3
    assert [conv.dilation[0] for conv in tail] == rates


@pytest.mark.parametrize(
    "options", [{"variant": "medium"}, {"reduced_tail": "yes"}, {"rounding": "up"}, {"dilation": "none"}]
)
def test_misspelt_options_are_refused(options: dict[str, str]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=f"{name} is '{options[name]}'; it must be one of"):
        MobileNetV3(**options)
