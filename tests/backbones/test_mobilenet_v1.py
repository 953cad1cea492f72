"""MobileNetV1 against the published counts and its paper's table."""

import pytest
import torch
from torch import nn

from mbdet.backbones import MobileNetV1
from mbdet.cost import count_madds, count_parameters


@pytest.mark.parametrize(
    ("width_mult", "resolution", "parameters", "madds"),
    [(1.0, 224, 3_185_088, 567_716_352), (0.75, 128, 1_800_144, 106_002_432)],
)
def test_costs_of_the_body_in_slims_docstring(width_mult: float, resolution: int, parameters: int, madds: int) -> None:
    with torch.device("meta"):
        network = MobileNetV1(width_mult)
        assert count_parameters(network, batch_norm=False) == parameters
        assert count_madds(network, torch.zeros(1, 3, resolution, resolution)) == madds


def test_strides_and_widths() -> None:
    with torch.device("meta"):
        network = MobileNetV1()
    convs = [network.stem.conv, *(block.depthwise.conv for block in network.blocks)]
    assert [conv.stride[0] for conv in convs] == [2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]
    assert [block.out_channels for block in network.blocks] == [64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]
    assert sum(isinstance(layer, nn.Conv2d) for layer in network.modules()) == 27  # and the classifier makes 28
    assert {type(layer) for layer in network.modules() if "ReLU" in type(layer).__name__} == {nn.ReLU6}


@pytest.mark.parametrize(
    ("width_mult", "min_channels", "stem", "first"), [(0.3, 8, 9, 19), (0.1, 8, 8, 8), (0.1, 16, 16, 16)]
)
def test_widths_are_cut_and_not_rounded(width_mult: float, min_channels: int, stem: int, first: int) -> None:
    with torch.device("meta"):
        network = MobileNetV1(width_mult, min_channels)
    assert (network.stem.conv.out_channels, network.blocks[0].out_channels) == (stem, first)


def test_taps_are_those_of_google_s_detector() -> None:
    network = MobileNetV1(0.25).eval()
    expected = {}
    for name, index in (("c4", 10), ("c5", 12)):
        network.blocks[index].register_forward_hook(lambda _m, _i, out, name=name: expected.update({name: out.out}))
    with torch.no_grad():
        features = network(torch.randint(256, (1, 3, 64, 64), dtype=torch.uint8))
    assert features["c4"] is expected["c4"]
    assert features["c4_expand"] is features["c4"]
    assert features["c5"] is expected["c5"]
