"""SSDLite (MobileNetV2 paper, section 6.2, in the form of the TF Object Detection API)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mbdet.backbones.base import Backbone
from mbdet.backbones.blocks import ConvBNAct, ConvConfig, Padding, depthwise, init_weights
from mbdet.models.detector import Detector
from mbdet.ops.anchors import AnchorConfig, anchors_per_cell, ssd_anchors
from mbdet.types import DetectorOutput

MIN_INPUT_SIDE = 33  # as in the TF feature extractors; the coarser maps would all be one cell


class ExtraLayer(nn.Module):
    """One more, coarser map: 1x1 to half the width, depthwise 3x3 at stride 2, 1x1 to the full width."""

    def __init__(self, in_channels: int, out_channels: int, config: ConvConfig) -> None:
        super().__init__()
        self.reduce = ConvBNAct(in_channels, out_channels // 2, config)
        self.depthwise = depthwise(out_channels // 2, config, stride=2)
        self.expand = ConvBNAct(out_channels // 2, out_channels, config)

    def forward(self, x: Tensor) -> Tensor:
        """Halve height and width, rounding up."""
        out: Tensor = self.expand(self.depthwise(self.reduce(x)))
        return out


class SeparablePredictor(nn.Module):
    """Depthwise 3x3 with batch norm and ReLU6, then a 1x1 convolution with bias and nothing after it.

    Args:
        in_channels: Channels of the feature map.
        num_anchors: Anchors per cell.
        num_outputs: Numbers predicted for each anchor.
        config: Padding and batch norm constants.
    """

    def __init__(self, in_channels: int, num_anchors: int, num_outputs: int, config: ConvConfig) -> None:
        super().__init__()
        self.depthwise = depthwise(in_channels, config)
        self.pointwise = nn.Conv2d(in_channels, num_anchors * num_outputs, 1)
        self.num_outputs = num_outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, h * w * num_anchors, num_outputs), in the order of `ssd_anchors`."""
        out: Tensor = self.pointwise(self.depthwise(x))
        return out.permute(0, 2, 3, 1).reshape(x.shape[0], -1, self.num_outputs)


class SSDLite(Detector):
    """SSD with depthwise separable predictors and extra layers.

    Anchors and heads follow from the sizes of the feature maps, so any input size and aspect works: the resolution
    multiplier is `input_size`.

    Args:
        backbone: Gives the feature maps.
        num_classes: K, background not counted; the class branch has K + 1 slots.
        input_size: Height and width of the network input in pixels.
        taps: Names of the backbone's maps to predict from, finest first. The expansion inside the first stride-32 block
            and the last map, as in the papers.
        extra_channels: Widths of the maps added after the last tap.
        anchors: Layout of the default boxes.
        padding: As in the backbone: `symmetric` for PyTorch weights, `same` for TF weights.
        bn_eps: Batch norm constant of the heads and extra layers.
        bn_momentum: Likewise.
        class_bias_init: Bias of the class predictors at the start: -4.6 means a score of 0.01 everywhere and calms the
            start under a sigmoid loss (RetinaNet paper, section 3.3). The TF configs state it, but their separable
            heads ignore it, hence 0.

    Raises:
        ValueError: If a tap is not a map of the backbone, or the input is too small.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        input_size: tuple[int, int] = (320, 320),
        taps: Sequence[str] = ("c4_expand", "c5"),
        extra_channels: Sequence[int] = (512, 256, 256, 128),
        anchors: AnchorConfig = AnchorConfig(),  # noqa: B008 -- frozen
        padding: Padding = "symmetric",
        bn_eps: float = 1e-3,
        bn_momentum: float = 0.03,
        class_bias_init: float = 0.0,
    ) -> None:
        super().__init__()
        unknown = [name for name in taps if name not in backbone.specs]
        if unknown:
            raise ValueError(f"taps {unknown} are not maps of the backbone; it gives {list(backbone.specs)}")
        if min(input_size) < MIN_INPUT_SIDE:
            raise ValueError(
                f"input_size is {tuple(input_size)}; SSDLite needs sides of {MIN_INPUT_SIDE} pixels or more"
            )
        config = ConvConfig(padding, bn_eps, bn_momentum)
        height, width = self.input_size = (input_size[0], input_size[1])
        self.num_classes = num_classes
        self.taps = tuple(taps)
        self.backbone = backbone

        specs = [backbone.specs[name] for name in taps]
        channels = [spec.channels for spec in specs]
        grids = [(math.ceil(height / spec.stride), math.ceil(width / spec.stride)) for spec in specs]
        extras = []
        for out_channels in extra_channels:
            extras.append(ExtraLayer(channels[-1], out_channels, config))
            channels.append(out_channels)
            rows, columns = grids[-1]
            grids.append((math.ceil(rows / 2), math.ceil(columns / 2)))
        self.extras = nn.ModuleList(extras)

        per_cell = list(zip(channels, anchors_per_cell(len(grids), anchors), strict=True))
        self.box_heads = nn.ModuleList(SeparablePredictor(c, a, 4, config) for c, a in per_cell)
        class_heads = [SeparablePredictor(c, a, num_classes + 1, config) for c, a in per_cell]
        self.class_heads = nn.ModuleList(class_heads)
        for part in (self.extras, self.box_heads, self.class_heads):
            init_weights(part, std=0.03)
        for head in class_heads:
            assert head.pointwise.bias is not None
            nn.init.constant_(head.pointwise.bias, class_bias_init)
        self.register_buffer("anchors", ssd_anchors(grids, self.input_size, anchors), persistent=False)

    def forward(self, images: Tensor) -> DetectorOutput:
        """See `Detector.forward`.

        Raises:
            ValueError: If the images are not of `input_size`.
        """
        if tuple(images.shape[-2:]) != self.input_size:
            raise ValueError(f"images are {tuple(images.shape[-2:])}, the detector was built for {self.input_size}")
        features = self.backbone(images)
        maps = [features[name] for name in self.taps]
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        return DetectorOutput(
            box_deltas=torch.cat([head(x) for head, x in zip(self.box_heads, maps, strict=True)], dim=1),
            class_logits=torch.cat([head(x) for head, x in zip(self.class_heads, maps, strict=True)], dim=1),
        )
