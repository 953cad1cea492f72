"""MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381)."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from mbdet.backbones.base import IMAGENET_MEAN, IMAGENET_STD, Backbone, FeatureSpec, Normalize
from mbdet.backbones.blocks import ConvBNAct, ConvConfig, Padding, depthwise, dilate, init_weights, make_divisible


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
LAST_CHANNELS = 1280
# The last blocks of levels 3 and 4, and the first of level 5: slim's layer_7, layer_14 and layer_15.
C3_BLOCK, C4_BLOCK, C5_FIRST_BLOCK = 5, 12, 13


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project linearly; add the input where the shapes allow (paper, section 3.3)."""

    def __init__(
        self, in_channels: int, out_channels: int, expansion: int, stride: int, dilation: int, config: ConvConfig
    ) -> None:
        super().__init__()
        inner = make_divisible(in_channels * expansion)
        self.expand = ConvBNAct(in_channels, inner, config) if expansion > 1 else nn.Identity()
        self.depthwise = depthwise(inner, config, stride, dilation)
        self.project = ConvBNAct(inner, out_channels, config, act=False)
        self.residual = stride == 1 and in_channels == out_channels
        self.expanded_channels = inner

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the block's output and its expansion."""
        expanded = self.expand(x)
        out = self.project(self.depthwise(expanded))
        return (x + out if self.residual else out), expanded


class MobileNetV2(Backbone):
    """MobileNetV2 without its classifier: maps `c3`, `c4`, `c4_expand`, `c5`.

    `c5` is the last 1x1 convolution (1280 channels at width 1), `c4_expand` the expansion of slim's layer_15.

    Args:
        width_mult: Scales every width, rounded to multiples of 8 (paper, section 4; slim's make_divisible).
        scale_last: Scale the last convolution too when `width_mult` < 1, as Google's detectors do; the paper's
            classifiers keep its 1280 channels.
        output_stride: 32, or 16 or 8 to trade stride for dilation.
        padding: `symmetric` for PyTorch weights, `same` for TF weights.
        bn_eps: 1e-5 for torchvision's weights, 1e-3 for TF's.
        bn_momentum: Weight of the newest batch in the running statistics.
        mean: RGB mean in [0, 255].
        std: RGB standard deviation in [0, 255].
    """

    def __init__(
        self,
        width_mult: float = 1.0,
        scale_last: bool = False,
        output_stride: int = 32,
        padding: Padding = "symmetric",
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        config = ConvConfig(padding, bn_eps, bn_momentum)
        rows = [
            (group.expansion, group.channels, group.stride if repeat == 0 else 1)
            for group in GROUPS
            for repeat in range(group.repeats)
        ]
        (stem_stride, _), *steps = dilate([2, *(stride for _, _, stride in rows)], output_stride)

        self.normalize = Normalize(mean, std)
        channels = make_divisible(STEM_CHANNELS * width_mult)
        self.stem = ConvBNAct(3, channels, config, kernel_size=3, stride=stem_stride)
        blocks: list[InvertedResidual] = []
        widths: list[FeatureSpec] = []
        total_stride = stem_stride
        for (expansion, width, _), (stride, dilation) in zip(rows, steps, strict=True):
            out_channels = make_divisible(width * width_mult)
            blocks.append(InvertedResidual(channels, out_channels, expansion, stride, dilation, config))
            channels = out_channels
            total_stride *= stride
            widths.append(FeatureSpec(channels, total_stride))
        self.blocks = nn.ModuleList(blocks)
        last = make_divisible(LAST_CHANNELS * (width_mult if scale_last else max(1.0, width_mult)))
        self.last = ConvBNAct(channels, last, config)

        self.specs = {
            "c3": widths[C3_BLOCK],
            "c4": widths[C4_BLOCK],
            "c4_expand": FeatureSpec(blocks[C5_FIRST_BLOCK].expanded_channels, widths[C4_BLOCK].stride),
            "c5": FeatureSpec(last, total_stride),
        }
        init_weights(self)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """See `Backbone.forward`."""
        features = {}
        x = self.stem(self.normalize(images))
        for index, block in enumerate(self.blocks):
            x, expanded = block(x)
            if index == C3_BLOCK:
                features["c3"] = x
            elif index == C4_BLOCK:
                features["c4"] = x
            elif index == C5_FIRST_BLOCK:
                features["c4_expand"] = expanded
        features["c5"] = self.last(x)
        return features
