"""MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381)."""

from collections.abc import Sequence
from typing import NamedTuple

from mbdet.backbones.base import IMAGENET_MEAN, IMAGENET_STD
from mbdet.backbones.blocks import ConvBNAct, ConvConfig, Padding, dilate, make_divisible
from mbdet.backbones.mobilenet import Block, InvertedResidual, MobileNet


class Group(NamedTuple):
    """One row of the paper's Table 2."""

    expansion: int
    channels: int
    repeats: int
    stride: int  # of the first block; the others have 1


STEM_CHANNELS = 32
GROUPS = (
    Group(1, 16, 1, 1),
    Group(6, 24, 2, 2),
    Group(6, 32, 3, 2),
    Group(6, 64, 4, 2),
    Group(6, 96, 3, 1),
    Group(6, 160, 3, 2),
    Group(6, 320, 1, 1),
)


class MobileNetV2(MobileNet):
    """MobileNetV2 without its classifier: the maps of `MobileNet`.

    `c5` is the last 1x1 convolution (1280 channels at width 1), `c4_expand` the expansion of slim's layer_15.

    Args:
        width_mult: Scales every width, rounded to multiples of 8 (paper, section 4; slim's make_divisible).
        scale_last: Scale the last convolution too when `width_mult` < 1, as Google's detectors do; the paper's
            classifiers keep its 1280 channels.
        last_channels: Of the last convolution at width 1: 256 in TF1's FPNLite. None leaves it out, as DeepLabv3
            does; `c5` is then the last block.
        output_stride: 32, or 16 or 8 to trade stride for dilation.
        padding: `symmetric` for PyTorch weights, `same` for TF weights.
        bn_eps: 1e-5 for torchvision's weights, 1e-3 for TF's.
        bn_momentum: Weight of the newest batch in the running statistics.
        mean: RGB mean in [0, 255].
        std: RGB standard deviation in [0, 255].
        min_channels: No block, nor the first or last convolution, has fewer outputs: 8 in slim, 16 in the TF Object
            Detection API. Expansions follow from these, whatever they are.
    """

    def __init__(
        self,
        width_mult: float = 1.0,
        scale_last: bool = False,
        last_channels: int | None = 1280,
        output_stride: int = 32,
        padding: Padding = "symmetric",
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        min_channels: int = 8,
    ) -> None:
        config = ConvConfig(padding, bn_eps, bn_momentum)
        rows = [
            (group.expansion, group.channels, group.stride if repeat == 0 else 1)
            for group in GROUPS
            for repeat in range(group.repeats)
        ]
        strides = [2, *(stride for _, _, stride in rows)]
        (stem_stride, _), *steps = dilate(strides, output_stride)

        stem_channels = channels = make_divisible(STEM_CHANNELS * width_mult, min_value=min_channels)
        blocks: list[Block] = []
        for (expansion, width, _), (stride, dilation) in zip(rows, steps, strict=True):
            inner = make_divisible(channels * expansion)
            out_channels = make_divisible(width * width_mult, min_value=min_channels)
            blocks.append(InvertedResidual(channels, inner, out_channels, config, stride, dilation))
            channels = out_channels
        stem = ConvBNAct(3, stem_channels, config, kernel_size=3, stride=stem_stride)
        last = None
        if last_channels is not None:
            last_mult = width_mult if scale_last else max(1.0, width_mult)
            last = ConvBNAct(channels, make_divisible(last_channels * last_mult, min_value=min_channels), config)
        super().__init__(stem, blocks, last, strides, mean, std)
