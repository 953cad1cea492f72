"""What the MobileNets share: blocks in a row, tapped where a level ends."""

from collections.abc import Sequence
from itertools import accumulate
from operator import mul
from typing import NamedTuple

from torch import Tensor, nn

from mbdet.backbones.base import Backbone, FeatureSpec, Normalize
from mbdet.backbones.blocks import (
    Activation,
    ConvBNAct,
    ConvConfig,
    SqueezeExcite,
    depthwise,
    init_weights,
    make_divisible,
)


class BlockOutput(NamedTuple):
    """The maps of a block that somebody wants."""

    out: Tensor
    expanded: Tensor  # what its depthwise convolution sees
    filtered: Tensor  # what its depthwise convolution gives, with batch norm and activation, before any gate


class Block(nn.Module):
    """A depthwise convolution with the 1x1 convolutions around it; `forward` returns a `BlockOutput`.

    Attributes:
        expanded_channels: Channels of the depthwise convolution.
        out_channels: Channels of the block's output.
        stride: Of the depthwise convolution, after dilation.
    """

    expanded_channels: int
    out_channels: int
    stride: int


class InvertedResidual(Block):
    """Expand, filter each channel, gate, project linearly; add the input where the shapes allow (V2 paper, 3.3).

    Args:
        in_channels: Channels in.
        expanded_channels: Channels of the depthwise convolution; if there are no more than `in_channels`, nothing is
            expanded.
        out_channels: Channels out.
        config: Padding and batch norm constants.
        stride: Of the depthwise convolution.
        dilation: Of the depthwise convolution.
        kernel_size: Of the depthwise convolution.
        squeeze: Whether the gate of V3 follows the depthwise convolution, with a quarter of its channels inside.
        act: Activation of all but the projection.
    """

    def __init__(
        self,
        in_channels: int,
        expanded_channels: int,
        out_channels: int,
        config: ConvConfig,
        stride: int = 1,
        dilation: int = 1,
        kernel_size: int = 3,
        squeeze: bool = False,
        act: Activation = "relu6",
    ) -> None:
        super().__init__()
        expands = expanded_channels > in_channels
        self.expand = ConvBNAct(in_channels, expanded_channels, config, act=act) if expands else nn.Identity()
        self.depthwise = depthwise(expanded_channels, config, stride, dilation, kernel_size, act)
        self.se = SqueezeExcite(expanded_channels, make_divisible(expanded_channels / 4)) if squeeze else nn.Identity()
        self.project = ConvBNAct(expanded_channels, out_channels, config, act="linear")
        self.residual = stride == 1 and in_channels == out_channels
        self.expanded_channels, self.out_channels, self.stride = expanded_channels, out_channels, stride

    def forward(self, x: Tensor) -> BlockOutput:
        """Return the block's output and the maps inside it."""
        expanded = self.expand(x)
        filtered = self.depthwise(expanded)
        out = self.project(self.se(filtered))
        return BlockOutput(x + out if self.residual else out, expanded, filtered)


class MobileNet(Backbone):
    """Stem, blocks and last convolution.

    Maps: `c2_depthwise`, `c3_first`, `c3`, `c3_depthwise`, `c4`, `c4_expand`, `c5`; see `Backbone`.

    Args:
        stem: The first convolution.
        blocks: All blocks.
        last: The convolution after them, or nothing.
        strides: Of the stem and of each block in the paper's table, before dilation; they say where the levels end.
        mean: RGB mean in [0, 255].
        std: RGB standard deviation in [0, 255].
    """

    def __init__(
        self,
        stem: ConvBNAct,
        blocks: Sequence[Block],
        last: ConvBNAct | None,
        strides: Sequence[int],
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__()
        self.normalize = Normalize(mean, std)
        self.stem = stem
        self.blocks = nn.ModuleList(blocks)
        self.last = nn.Identity() if last is None else last

        reached = list(accumulate(strides, mul))[1:]  # undilated stride after each block
        self._c2_block, self._c3_block, self._c4_block = (
            len(reached) - 1 - reached[::-1].index(stride) for stride in (4, 8, 16)
        )
        actual = list(accumulate([stem.conv.stride[0], *(block.stride for block in blocks)], mul))[1:]
        c2, first_c3, c3 = blocks[self._c2_block], blocks[self._c2_block + 1], blocks[self._c3_block]
        c4, first_c5 = blocks[self._c4_block], blocks[self._c4_block + 1]
        self.specs = {
            "c2_depthwise": FeatureSpec(c2.expanded_channels, actual[self._c2_block]),
            "c3_first": FeatureSpec(first_c3.out_channels, actual[self._c2_block + 1]),
            "c3": FeatureSpec(c3.out_channels, actual[self._c3_block]),
            "c3_depthwise": FeatureSpec(c3.expanded_channels, actual[self._c3_block]),
            "c4": FeatureSpec(c4.out_channels, actual[self._c4_block]),
            "c4_expand": FeatureSpec(first_c5.expanded_channels, actual[self._c4_block]),
            "c5": FeatureSpec(blocks[-1].out_channels if last is None else last.conv.out_channels, actual[-1]),
        }
        init_weights(self)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """See `Backbone.forward`."""
        features: dict[str, Tensor] = {}
        x = self.stem(self.normalize(images))
        for index, block in enumerate(self.blocks):
            x, expanded, filtered = block(x)
            if index == self._c2_block:
                features["c2_depthwise"] = filtered
            if index == self._c2_block + 1:
                features["c3_first"] = x
            if index == self._c3_block:
                features |= {"c3": x, "c3_depthwise": filtered}
            if index == self._c4_block:
                features["c4"] = x
            if index == self._c4_block + 1:
                features["c4_expand"] = expanded
        features["c5"] = self.last(x)
        return features
