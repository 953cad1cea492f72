"""The pyramid's arithmetic, by hand on one channel."""

import pytest
import torch
from torch import Tensor, nn

from mbdet.backbones.blocks import ConvConfig
from mbdet.models.fpn import FPN, PyramidConv


@torch.no_grad()
def make_transparent(layer: PyramidConv, factor: float) -> None:
    """Make a layer of one channel multiply each cell it sees by `factor`."""
    first, *others = (part for part in layer.modules() if isinstance(part, nn.Conv2d))
    nn.init.zeros_(first.weight)
    first.weight[0, 0, 1, 1] = factor
    for other in others:
        nn.init.ones_(other.weight)
    layer.bn.eps = 0.0


def pyramid(separable: bool) -> FPN:
    """Laterals: times 1 plus 0.5. Smoothing: times 0.5 and 0.25 at the finest. Extra level: times 1."""
    fpn = FPN([1, 1, 1], 1, ConvConfig(), separable, extra_levels=1).eval()
    for lateral in fpn.laterals:
        nn.init.ones_(lateral.weight)
        nn.init.constant_(lateral.bias, 0.5)
    for layer, factor in zip((*fpn.smooth, *fpn.extras), (0.25, 0.5, 1.0), strict=True):
        make_transparent(layer, factor)
    return fpn


@pytest.mark.parametrize("separable", [False, True])
def test_sums_by_hand_on_odd_sizes(separable: bool) -> None:
    fine, middle = torch.zeros(1, 1, 5, 6), torch.zeros(1, 1, 3, 3)
    fine[0, 0, 4, 5] = 1.0
    coarse = torch.tensor([[1.0, 2.0], [-0.5, -9.0]])[None, None]
    outputs = pyramid(separable)([fine, middle, coarse])

    # The coarsest map is no sum and nothing smooths it, so it may be negative.
    top = torch.tensor([[1.5, 2.5], [0.0, -8.5]])
    sums = torch.tensor([[2.0, 2.0, 3.0], [2.0, 2.0, 3.0], [0.5, 0.5, -8.0]])
    wide = torch.tensor(
        [
            [2.5, 2.5, 2.5, 2.5, 3.5, 3.5],
            [2.5, 2.5, 2.5, 2.5, 3.5, 3.5],
            [2.5, 2.5, 2.5, 2.5, 3.5, 3.5],
            [2.5, 2.5, 2.5, 2.5, 3.5, 3.5],
            [1.0, 1.0, 1.0, 1.0, -7.5, -6.5],
        ]
    )
    # The sums go on unsmoothed; ReLU6 cuts what is negative.
    expected: list[Tensor] = [wide.relu() / 4, sums.relu() / 2, top, torch.tensor([[1.5]])]
    assert len(outputs) == 4
    for output, values in zip(outputs, expected, strict=True):
        torch.testing.assert_close(output[0, 0], values)


@pytest.mark.parametrize("size", [2, 3, 7, 10, 33, 80])
def test_coarse_cells_are_repeated_twice(size: int) -> None:
    half = -(-size // 2)
    coarse = torch.arange(float(half * half)).view(1, 1, half, half) / (half * half)
    fpn = pyramid(separable=True)
    finest = fpn([torch.zeros(1, 1, 2 * size, 2 * size), torch.zeros(1, 1, size, size), coarse])[1]
    repeated = coarse.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)[..., :size, :size]
    torch.testing.assert_close(finest, (repeated + 1.0) / 2)
