"""SSD on MobileNets (MobileNetV1 paper, section 4.6, in the form of the TF Object Detection API)."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from mbdet.backbones.base import Backbone
from mbdet.backbones.blocks import ConvBNAct, ConvConfig, Padding, depthwise, init_weights
from mbdet.models.detector import Detector, check_input_size, map_size, tapped_specs
from mbdet.models.heads import ConvPredictor, SeparablePredictor
from mbdet.ops.anchors import AnchorConfig, anchors_per_cell, ssd_anchors
from mbdet.types import DetectorOutput

Predictor = Literal["conv1", "conv3", "separable"]
Extra = Literal["conv", "separable"]


class ExtraLayer(nn.Module):
    """One more, coarser map: 1x1 to half the width, then 3x3 at stride 2 to the full width.

    Args:
        in_channels: Channels of the map before it.
        out_channels: Channels of this one.
        separable: Whether the 3x3 convolution is a depthwise one followed by 1x1.
        config: Padding and batch norm constants.
        min_channels: The half is no narrower.
    """

    def __init__(
        self, in_channels: int, out_channels: int, separable: bool, config: ConvConfig, min_channels: int
    ) -> None:
        super().__init__()
        half = max(out_channels // 2, min_channels)
        self.reduce = ConvBNAct(in_channels, half, config)
        if separable:
            self.depthwise: nn.Module = depthwise(half, config, stride=2)
            self.expand = ConvBNAct(half, out_channels, config)
        else:
            self.depthwise = nn.Identity()
            self.expand = ConvBNAct(half, out_channels, config, kernel_size=3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Halve height and width, rounding up."""
        out: Tensor = self.expand(self.depthwise(self.reduce(x)))
        return out


class SSD(Detector):
    """Predictors on maps of the backbone and on coarser ones added behind it.

    Anchors and heads follow from the sizes of the feature maps, so any input size and aspect works: the resolution
    multiplier is `input_size`.

    Args:
        backbone: Gives the feature maps.
        num_classes: K, background not counted; the class branch has K + 1 slots.
        input_size: Height and width of the network input in pixels.
        taps: Names of the backbone's maps to predict from, finest first. The expansion inside the first stride-32 block
            (on V1 its input, for want of one) and the last map, as in the papers.
        extra_channels: Widths of the maps added after the last tap.
        predictor: A convolution of side 1 (TF's MobileNetV1 configs) or 3 (its ssd_mobilenet_v2_coco), or `separable`.
        extra: Whether the added maps come from whole convolutions (TF's MobileNetV1 configs) or from `separable` ones
            (its ssd_mobilenet_v2_coco).
        anchors: Layout of the default boxes.
        padding: As in the backbone: `symmetric` for PyTorch weights, `same` for TF weights.
        bn_eps: Batch norm constant of the heads and extra layers.
        bn_momentum: Likewise.
        class_bias_init: Bias of the class predictors at the start: -4.6 means a score of 0.01 everywhere and calms the
            start under a sigmoid loss (RetinaNet paper, section 3.3).
        min_extra_channels: The added maps come from no fewer channels, half their width otherwise: 16 in the TF Object
            Detection API, which matters to widths below 32. Their own widths are `extra_channels`, whatever this is.

    Raises:
        ValueError: If a tap is not a map of the backbone, the input is too small, or an option misspelt.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        input_size: tuple[int, int] = (300, 300),
        taps: Sequence[str] = ("c4_expand", "c5"),
        extra_channels: Sequence[int] = (512, 256, 256, 128),
        predictor: Predictor = "conv1",
        extra: Extra = "conv",
        anchors: AnchorConfig = AnchorConfig(),  # noqa: B008 -- frozen
        padding: Padding = "symmetric",
        bn_eps: float = 1e-3,
        bn_momentum: float = 0.03,
        class_bias_init: float = 0.0,
        min_extra_channels: int = 1,
    ) -> None:
        super().__init__()
        for name, value, known in (("predictor", predictor, get_args(Predictor)), ("extra", extra, get_args(Extra))):
            if value not in known:
                raise ValueError(f"{name} is {value!r}; it must be one of {known}")
        specs = tapped_specs(backbone, taps)
        config = ConvConfig(padding, bn_eps, bn_momentum)
        self.input_size = check_input_size(input_size)
        self.num_classes = num_classes
        self.taps = tuple(taps)
        self.backbone = backbone

        channels = [spec.channels for spec in specs]
        grids = [map_size(self.input_size, spec.stride) for spec in specs]
        extras = []
        for out_channels in extra_channels:
            extras.append(ExtraLayer(channels[-1], out_channels, extra == "separable", config, min_extra_channels))
            channels.append(out_channels)
            grids.append(map_size(grids[-1], 2))
        self.extras = nn.ModuleList(extras)

        def head(in_channels: int, num_anchors: int, num_outputs: int) -> ConvPredictor | SeparablePredictor:
            if predictor == "separable":
                return SeparablePredictor(in_channels, num_anchors, num_outputs, config)
            return ConvPredictor(in_channels, num_anchors, num_outputs, 1 if predictor == "conv1" else 3)

        per_cell = list(zip(channels, anchors_per_cell(len(grids), anchors), strict=True))
        self.box_heads = nn.ModuleList(head(c, a, 4) for c, a in per_cell)
        class_heads = [head(c, a, num_classes + 1) for c, a in per_cell]
        self.class_heads = nn.ModuleList(class_heads)
        for part in (self.extras, self.box_heads, self.class_heads):
            init_weights(part, std=0.03)
        for class_head in class_heads:
            assert class_head.last.bias is not None
            nn.init.constant_(class_head.last.bias, class_bias_init)
        self.register_buffer("anchors", ssd_anchors(grids, self.input_size, anchors), persistent=False)

    def from_features(self, features: dict[str, Tensor]) -> DetectorOutput:
        """See `Detector.from_features`."""
        maps = [features[name] for name in self.taps]
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        return DetectorOutput(
            box_deltas=torch.cat([head(x) for head, x in zip(self.box_heads, maps, strict=True)], dim=1),
            class_logits=torch.cat([head(x) for head, x in zip(self.class_heads, maps, strict=True)], dim=1),
        )
