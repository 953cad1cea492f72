"""Feature pyramid network (Lin et al. 2017, arXiv 1612.03144), whole or depthwise separable as in FPNLite.

As in the TF Object Detection API: feature_map_generators.py and ssd_mobilenet_v*_fpn_feature_extractor.py.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from mbdet.backbones.blocks import ConvConfig, activation, conv2d


class SeparableConv2d(nn.Module):
    """Depthwise 3x3, then 1x1, with nothing between them: slim's separable_conv2d."""

    def __init__(self, in_channels: int, out_channels: int, config: ConvConfig, stride: int, bias: bool) -> None:
        super().__init__()
        self.depthwise = conv2d(in_channels, in_channels, config, kernel_size=3, stride=stride, groups=in_channels)
        self.pointwise = conv2d(in_channels, out_channels, config, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C, H, W) to (B, C', ceil(H / stride), ceil(W / stride))."""
        out: Tensor = self.pointwise(self.depthwise(x))
        return out


def conv3x3(
    in_channels: int, out_channels: int, config: ConvConfig, separable: bool, stride: int = 1, bias: bool = False
) -> nn.Conv2d | SeparableConv2d:
    """Return a 3x3 convolution, whole or separable."""
    if separable:
        return SeparableConv2d(in_channels, out_channels, config, stride, bias)
    return conv2d(in_channels, out_channels, config, kernel_size=3, stride=stride, bias=bias)


class PyramidConv(nn.Module):
    """A 3x3 convolution, whole or separable, with batch norm and ReLU6."""

    def __init__(self, channels: int, config: ConvConfig, separable: bool, stride: int = 1) -> None:
        super().__init__()
        self.conv = conv3x3(channels, channels, config, separable, stride)
        self.bn = nn.BatchNorm2d(channels, config.bn_eps, config.bn_momentum)
        self.act = activation("relu6")

    def forward(self, x: Tensor) -> Tensor:
        """Apply the three in order."""
        out: Tensor = self.act(self.bn(self.conv(x)))
        return out


class FPN(nn.Module):
    """Maps of equal width at every level, each of which has seen all coarser ones.

    A 1x1 convolution with bias, without batch norm or activation, brings each map to the pyramid's width. From the
    coarsest on, each sum is repeated to twice its size and added to the next finer map; a 3x3 convolution smooths each
    sum for the output (not the coarsest map, which is no sum). Strided 3x3 convolutions go on from the coarsest.
    The sums travel on as they are; TF's Keras code hands on the smoothed ones.

    Args:
        in_channels: Channels of the maps, finest first.
        channels: Width of the pyramid.
        config: Padding and batch norm constants.
        separable: Whether the 3x3 convolutions are separable.
        extra_levels: Levels added above the coarsest map.
    """

    def __init__(
        self, in_channels: Sequence[int], channels: int, config: ConvConfig, separable: bool, extra_levels: int
    ) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(conv2d(width, channels, config, bias=True) for width in in_channels)
        self.smooth = nn.ModuleList(PyramidConv(channels, config, separable) for _ in in_channels[:-1])
        self.extras = nn.ModuleList(PyramidConv(channels, config, separable, stride=2) for _ in range(extra_levels))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Merge (B, C_i, h_i, w_i), finest first, each half as large as the one before, rounded up.

        Returns:
            (B, channels, h_i, w_i) for these levels, then for the added ones.
        """
        *finer, merged = (lateral(x) for lateral, x in zip(self.laterals, maps, strict=True))
        pyramid = [merged]
        for smooth, x in zip(reversed(self.smooth), reversed(finer), strict=True):
            # On odd sizes the repeated map is cut at the bottom and right.
            merged = x + F.interpolate(merged, size=x.shape[-2:], mode="nearest")
            pyramid.insert(0, smooth(merged))
        for extra in self.extras:
            pyramid.append(extra(pyramid[-1]))
        return pyramid
