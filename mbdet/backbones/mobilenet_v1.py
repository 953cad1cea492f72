"""MobileNetV1 (Howard et al. 2017, arXiv 1704.04861)."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from mbdet.backbones.base import IMAGENET_MEAN, IMAGENET_STD
from mbdet.backbones.blocks import ConvBNAct, ConvConfig, Padding, depthwise, dilate
from mbdet.backbones.mobilenet import Block, BlockOutput, MobileNet


class Row(NamedTuple):
    """One depthwise separable convolution of the paper's Table 1."""

    channels: int
    stride: int


STEM = Row(32, 2)
# The table prints stride 2 for the last one; the sizes beside it and slim's code say 1.
ROWS = (
    Row(64, 1),
    Row(128, 2),
    Row(128, 1),
    Row(256, 2),
    Row(256, 1),
    Row(512, 2),
    *[Row(512, 1)] * 5,
    Row(1024, 2),
    Row(1024, 1),
)


class DepthwiseSeparable(Block):
    """Filter each channel, then combine them; ReLU6 after both, as in slim's code, where the paper says ReLU."""

    def __init__(self, in_channels: int, out_channels: int, config: ConvConfig, stride: int, dilation: int) -> None:
        super().__init__()
        self.depthwise = depthwise(in_channels, config, stride, dilation)
        self.pointwise = ConvBNAct(in_channels, out_channels, config)
        self.expanded_channels, self.out_channels, self.stride = in_channels, out_channels, stride

    def forward(self, x: Tensor) -> BlockOutput:
        """Return the block's output, its input for want of an expansion, and the map between."""
        filtered = self.depthwise(x)
        return BlockOutput(self.pointwise(filtered), x, filtered)


class MobileNetV1(MobileNet):
    """MobileNetV1 without its classifier: the maps of `MobileNet`.

    Nothing expands here, so `c4_expand` is `c4`, slim's Conv2d_11; `c5` is Conv2d_13. SSDLite's default taps are
    therefore those of Google's detectors.

    Args:
        width_mult: Scales every width, cut to a whole number (paper, section 3.3; slim's mobilenet_v1.py).
        min_channels: No width is smaller: 8 in slim, 16 in the TF Object Detection API.
        output_stride: 32, or 16 or 8 to trade stride for dilation.
        padding: `symmetric` for PyTorch weights, `same` for TF weights.
        bn_eps: 1e-3 for TF's weights, 1e-5 for timm's.
        bn_momentum: Weight of the newest batch in the running statistics; slim's decay of 0.9997 is 0.0003 here, which
            needs some ten thousand steps to follow.
        mean: RGB mean in [0, 255].
        std: RGB standard deviation in [0, 255].
        last_channels: Of a 1x1 convolution after the blocks, which is then `c5`: 1024 in timm's mobilenetv1_100h, not
            made narrower by a `width_mult` below 1. None, as in the paper, has none.
    """

    def __init__(
        self,
        width_mult: float = 1.0,
        min_channels: int = 8,
        output_stride: int = 32,
        padding: Padding = "symmetric",
        bn_eps: float = 1e-3,
        bn_momentum: float = 0.1,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        last_channels: int | None = None,
    ) -> None:
        config = ConvConfig(padding, bn_eps, bn_momentum)
        strides = [row.stride for row in (STEM, *ROWS)]
        (stem_stride, _), *steps = dilate(strides, output_stride)
        stem_channels, *widths = (max(int(row.channels * width_mult), min_channels) for row in (STEM, *ROWS))
        blocks: list[Block] = []
        channels = stem_channels
        for width, (stride, dilation) in zip(widths, steps, strict=True):
            blocks.append(DepthwiseSeparable(channels, width, config, stride, dilation))
            channels = width
        stem = ConvBNAct(3, stem_channels, config, kernel_size=3, stride=stem_stride)
        last = None if last_channels is None else ConvBNAct(channels, int(last_channels * max(1.0, width_mult)), config)
        super().__init__(stem, blocks, last, strides, mean, std)
