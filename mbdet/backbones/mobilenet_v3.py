"""MobileNetV3, Large and Small, and their minimalistic variants (Howard et al. 2019, arXiv 1905.02244)."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

from mbdet.backbones.base import IMAGENET_MEAN, IMAGENET_STD
from mbdet.backbones.blocks import Activation, ConvBNAct, ConvConfig, Dilation, Padding, dilate, make_divisible
from mbdet.backbones.mobilenet import Block, InvertedResidual, MobileNet

Variant = Literal["large", "small"]
ReducedTail = Literal["detection", "segmentation"]
WidthRounding = Literal["slim", "torchvision"]


class Row(NamedTuple):
    """One bottleneck of the paper's Tables 1 and 2."""

    kernel: int
    expanded: int
    channels: int
    squeeze: bool
    act: Activation
    stride: int


RE: Activation = "relu"
HS: Activation = "hard_swish"
STEM_CHANNELS = 16
ROWS: dict[Variant, tuple[Row, ...]] = {
    "large": (
        Row(3, 16, 16, False, RE, 1),
        Row(3, 64, 24, False, RE, 2),
        Row(3, 72, 24, False, RE, 1),
        Row(5, 72, 40, True, RE, 2),
        Row(5, 120, 40, True, RE, 1),
        Row(5, 120, 40, True, RE, 1),
        Row(3, 240, 80, False, HS, 2),
        Row(3, 200, 80, False, HS, 1),
        Row(3, 184, 80, False, HS, 1),
        Row(3, 184, 80, False, HS, 1),
        Row(3, 480, 112, True, HS, 1),
        Row(3, 672, 112, True, HS, 1),
        Row(5, 672, 160, True, HS, 2),
        Row(5, 960, 160, True, HS, 1),
        Row(5, 960, 160, True, HS, 1),
    ),
    "small": (
        Row(3, 16, 16, True, RE, 2),
        Row(3, 72, 24, False, RE, 2),
        Row(3, 88, 24, False, RE, 1),
        Row(5, 96, 40, True, HS, 2),
        Row(5, 240, 40, True, HS, 1),
        Row(5, 240, 40, True, HS, 1),
        Row(5, 120, 48, True, HS, 1),
        Row(5, 144, 48, True, HS, 1),
        Row(5, 288, 96, True, HS, 2),
        Row(5, 576, 96, True, HS, 1),
        Row(5, 576, 96, True, HS, 1),
    ),
}
LAST_CHANNELS: dict[Variant, int] = {"large": 960, "small": 576}
TAIL = 3  # blocks that a reduced tail halves, the last ones


class MobileNetV3(MobileNet):
    """MobileNetV3 up to its pooling: the maps of `MobileNet`.

    `c5` is the last 1x1 convolution before the pool (960 channels in Large, 576 in Small), `c4_expand` the expansion of
    the first stride-32 block. The stage after the pool belongs to the classifier (`mbdet.models.Classifier`).

    Args:
        variant: `large` or `small`.
        minimalistic: No squeeze-and-excite, 3x3 for 5x5, ReLU for h-swish (slim's README).
        width_mult: Scales every width, rounded to multiples of 8.
        rounding: How: `slim` multiplies the rounded input of a block by the table's expansion; `torchvision` rounds the
            scaled expansion, which gives other networks at every width but 1.
        reduced_tail: Halve the channels between `c4` and `c5`: for `detection` all outputs (paper, section 6.3), for
            `segmentation` the expansion of the first block too (as in slim's code for section 6.4).
        output_stride: 32, or 16 or 8 to trade stride for dilation.
        dilation: Whether the block that gives up its stride is dilated itself: no in `google`'s networks, yes in
            `torchvision`'s.
        padding: `symmetric` for PyTorch weights, `same` for TF weights.
        bn_eps: Batch norm constant.
        bn_momentum: Weight of the newest batch in the running statistics; 0.01 is the paper's (section 6.1.1).
        mean: RGB mean in [0, 255].
        std: RGB standard deviation in [0, 255].
        min_channels: No block, nor the first or last convolution, has fewer outputs: 8 in slim, 16 in the TF Object
            Detection API. Expansions and gates follow from these, whatever they are.
    """

    def __init__(
        self,
        variant: Variant = "large",
        minimalistic: bool = False,
        width_mult: float = 1.0,
        rounding: WidthRounding = "slim",
        reduced_tail: ReducedTail | None = None,
        output_stride: int = 32,
        dilation: Dilation = "google",
        padding: Padding = "symmetric",
        bn_eps: float = 1e-3,
        bn_momentum: float = 0.01,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        min_channels: int = 8,
    ) -> None:
        for name, value, known in (
            ("variant", variant, get_args(Variant)),
            ("rounding", rounding, get_args(WidthRounding)),
            ("reduced_tail", reduced_tail, (*get_args(ReducedTail), None)),
            ("dilation", dilation, get_args(Dilation)),
        ):
            if value not in known:
                raise ValueError(f"{name} is {value!r}; it must be one of {known}")
        config = ConvConfig(padding, bn_eps, bn_momentum)
        rows = reduce_tail(ROWS[variant], reduced_tail)
        if minimalistic:
            rows = [row._replace(kernel=3, squeeze=False, act=RE) for row in rows]
        strides = [2, *(row.stride for row in rows)]
        (stem_stride, _), *steps = dilate(strides, output_stride, dilation)

        stem_channels = channels = make_divisible(STEM_CHANNELS * width_mult, min_value=min_channels)
        table_channels = STEM_CHANNELS
        blocks: list[Block] = []
        for row, (stride, rate) in zip(rows, steps, strict=True):
            if rounding == "slim":
                expanded = make_divisible(channels * row.expanded / table_channels)
            else:
                expanded = make_divisible(row.expanded * width_mult)
            out_channels = make_divisible(row.channels * width_mult, min_value=min_channels)
            block = InvertedResidual(
                channels, expanded, out_channels, config, stride, rate, row.kernel, row.squeeze, row.act
            )
            blocks.append(block)
            channels, table_channels = out_channels, row.channels
        last_channels = LAST_CHANNELS[variant] // (1 if reduced_tail is None else 2)
        act = RE if minimalistic else HS
        stem = ConvBNAct(3, stem_channels, config, kernel_size=3, stride=stem_stride, act=act)
        last_width = make_divisible(last_channels * width_mult, min_value=min_channels)
        last = ConvBNAct(channels, last_width, config, act=act)
        super().__init__(stem, blocks, last, strides, mean, std)


def reduce_tail(rows: Sequence[Row], tail: ReducedTail | None) -> list[Row]:
    """Halve the table's last three rows (V3_LARGE_DETECTION and its like in the TF repositories; DeepLab's *_seg).

    Args:
        rows: All rows.
        tail: None leaves them as they are.
    """
    if tail is None:
        return list(rows)
    first, *rest = rows[-TAIL:]
    # The expansion factors stay, so the later blocks' expansions follow from their halved input.
    expanded = first.expanded // (1 if tail == "detection" else 2)
    halved = [first._replace(expanded=expanded, channels=first.channels // 2)]
    halved += [row._replace(expanded=row.expanded // 2, channels=row.channels // 2) for row in rest]
    return [*rows[:-TAIL], *halved]
