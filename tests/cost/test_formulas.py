"""The V1 paper's worked examples, from the formulas and from counted networks."""

import pytest
from torch import nn

from mbdet.cost import ConvCost, analyse, separable_cost, separable_ratio, standard_cost


def separable(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False),
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
    )


@pytest.mark.parametrize(
    ("channels", "side", "millions_of_madds", "millions_of_weights"),
    [(512, 14, 52.3, 0.27), (384, 14, 29.6, 0.15), (384, 10, 15.1, 0.15)],
    ids=["separable", "alpha 0.75", "rho 0.714"],
)
def test_table_3(channels: int, side: int, millions_of_madds: float, millions_of_weights: float) -> None:
    """V1 paper, Table 3: one layer with Dk = 3, M = N = 512, Df = 14, then narrower, then at a lower resolution."""
    cost = separable_cost((3, 3), channels, channels, (side, side))
    assert cost.madds / 1e6 == pytest.approx(millions_of_madds, abs=0.05)
    assert cost.weights / 1e6 == pytest.approx(millions_of_weights, abs=0.005)

    network = nn.Sequential(nn.Conv2d(3, channels, 1), separable(channels, channels))
    (pair,) = analyse(network, (side, side)).pairs
    assert pair.separable == cost


def test_table_3_standard() -> None:
    cost = standard_cost((3, 3), 512, 512, (14, 14))
    assert cost.madds / 1e6 == pytest.approx(462, abs=0.5)
    assert cost.weights / 1e6 == pytest.approx(2.36, abs=0.005)
    counted = analyse(nn.Sequential(nn.Conv2d(3, 512, 1), nn.Conv2d(512, 512, 3, padding=1)), (14, 14)).layers[1]
    assert ConvCost(counted.madds, counted.weights) == cost


def test_exact_example() -> None:
    standard = standard_cost((3, 3), 64, 128, (112, 112))
    cheap = separable_cost((3, 3), 64, 128, (112, 112))
    assert (standard.madds, cheap.madds) == (924_844_032, 109_985_792)
    assert cheap.madds / standard.madds == pytest.approx(0.1189, abs=5e-5)
    for ratio in (cheap.madds / standard.madds, cheap.weights / standard.weights):
        assert ratio == pytest.approx(separable_ratio((3, 3), 128), rel=1e-12)


def test_costs_add_up() -> None:
    assert ConvCost(1, 2) + ConvCost(3, 4) == ConvCost(4, 6)
