"""LR-ASPP (MobileNetV3 paper, section 6.4), as in Google's research/deeplab, and torchvision's variant."""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mbdet.backbones.base import Backbone
from mbdet.backbones.blocks import ConvBNAct, ConvConfig, init_weights
from mbdet.models.segmenter import Segmenter, check_segmenter, resize
from mbdet.types import SegmenterOutput

Gate = Literal["sigmoid", "hard_sigmoid"]
GATES: dict[Gate, Callable[[Tensor], Tensor]] = {"sigmoid": torch.sigmoid, "hard_sigmoid": F.hardsigmoid}


class LRASPP(Segmenter):
    """A 1x1 convolution of `c5`, gated by what a large pool sees, and a finer map, each with a classifier of its own.

    Published networks:

    - The paper's: the defaults, on `MobileNetV3(reduced_tail="segmentation", output_stride=16)`, large or small.
    - Google's weights: `pool_size=(25, 25)`, `pool_stride=(4, 5)`, `gate="hard_sigmoid"`, at output stride 32.
    - torchvision's lraspp_mobilenet_v3_large: `pool_size=None`, `low_level="c3_first"`, `gate_bias=False`,
      `align_corners=False`, on `MobileNetV3(output_stride=16, dilation="torchvision")`.

    Args:
        backbone: Gives the feature maps.
        num_classes: K, the data set's own classes.
        input_size: Height and width of the images that it is meant for; others work too.
        channels: Of the 1x1 convolution and of the gate.
        pool_size: Height and width, in cells of `c5`, of the windows that the gate averages; on a smaller map, of the
            whole map. None is always the whole map.
        pool_stride: Cells from one window to the next, down and across.
        low_level: Name of the finer map; the logits are made at its resolution.
        gate: Of the pooled map.
        gate_bias: Whether the convolution in the gate has a bias.
        align_corners: How maps grow, see `resize`.
        bn_eps: Batch norm constant of the head, which has a single one.
        bn_momentum: Likewise.

    Raises:
        ValueError: If `low_level` is not a map of the backbone, or an option is out of range.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        input_size: tuple[int, int] = (513, 513),
        channels: int = 128,
        pool_size: tuple[int, int] | None = (49, 49),
        pool_stride: tuple[int, int] = (16, 20),
        low_level: str = "c3_depthwise",
        gate: Gate = "sigmoid",
        gate_bias: bool = True,
        align_corners: bool = True,
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        check_segmenter(backbone, num_classes, input_size, "c5", low_level)
        if gate not in get_args(Gate):
            raise ValueError(f"gate is {gate!r}; it must be one of {get_args(Gate)}")
        if min([channels, *(pool_size or ()), *pool_stride]) < 1:
            raise ValueError(
                f"channels {channels}, pool_size {pool_size}, pool_stride {pool_stride}: give 1 or more of each"
            )
        self.num_classes = num_classes
        self.input_size = (input_size[0], input_size[1])
        self.low_level = low_level
        self.pool_size, self.pool_stride = pool_size, pool_stride
        self.align_corners = align_corners
        self.backbone = backbone

        high_channels = backbone.specs["c5"].channels
        config = ConvConfig(bn_eps=bn_eps, bn_momentum=bn_momentum)
        self.conv = ConvBNAct(high_channels, channels, config, act="relu")
        self.gate = nn.Conv2d(high_channels, channels, 1, bias=gate_bias)
        self.gate_act = GATES[gate]
        self.low_classifier = nn.Conv2d(backbone.specs[low_level].channels, num_classes, 1)
        self.high_classifier = nn.Conv2d(channels, num_classes, 1)
        for part in (self.conv, self.gate):
            init_weights(part)
        for classifier in (self.low_classifier, self.high_classifier):
            init_weights(classifier, std=0.01)

    def from_features(self, features: dict[str, Tensor], size: Sequence[int]) -> SegmenterOutput:
        """See `Segmenter.from_features`."""
        low, high = features[self.low_level], features["c5"]
        gate = resize(self.gate_act(self.gate(self._pool(high))), high.shape[-2:], self.align_corners)
        x = resize(self.conv(high) * gate, low.shape[-2:], self.align_corners)
        logits = self.low_classifier(low) + self.high_classifier(x)
        return SegmenterOutput(resize(logits, size, self.align_corners), None)

    def _pool(self, x: Tensor) -> Tensor:
        """Average over windows that lie in the map; what is left over at the bottom and right counts for nothing."""
        height, width = x.shape[2:]
        if self.pool_size is None or (self.pool_size[0] >= height and self.pool_size[1] >= width):
            return x.mean((2, 3), keepdim=True)
        window = min(self.pool_size[0], height), min(self.pool_size[1], width)
        return F.avg_pool2d(x, window, self.pool_stride)
