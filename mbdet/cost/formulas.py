"""The costs of a single convolution as the MobileNets paper writes them (arXiv 1704.04861, section 3)."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class ConvCost:
    """What a convolution costs, its bias left out."""

    madds: int
    weights: int

    def __add__(self, other: "ConvCost") -> "ConvCost":
        """Add up both figures."""
        return ConvCost(self.madds + other.madds, self.weights + other.weights)


def standard_cost(kernel_size: tuple[int, int], in_channels: int, out_channels: int, size: tuple[int, int]) -> ConvCost:
    """Return the cost of a standard convolution, Dk^2 M N Df^2 multiply-adds (equation 2).

    Args:
        kernel_size: Height and width of the kernel, Dk x Dk in the paper.
        in_channels: M. With the width multiplier, that many.
        out_channels: N, likewise.
        size: Height and width of the map that it makes, Df x Df in the paper. With the resolution multiplier, those.
    """
    weights = math.prod(kernel_size) * in_channels * out_channels
    return ConvCost(weights * math.prod(size), weights)


def separable_cost(
    kernel_size: tuple[int, int], in_channels: int, out_channels: int, size: tuple[int, int]
) -> ConvCost:
    """Return the cost of a depthwise and a 1x1 convolution, Dk^2 M Df^2 + M N Df^2 multiply-adds (equation 5).

    Args:
        kernel_size: Of the depthwise convolution; see `standard_cost`.
        in_channels: M.
        out_channels: N.
        size: Height and width of the map that both make.
    """
    depthwise = standard_cost(kernel_size, in_channels, 1, size)
    return depthwise + standard_cost((1, 1), in_channels, out_channels, size)


def separable_ratio(kernel_size: tuple[int, int], out_channels: int) -> float:
    """Return 1/N + 1/Dk^2: a separable convolution's multiply-adds, and weights, for one of the standard one's."""
    return 1 / out_channels + 1 / math.prod(kernel_size)
