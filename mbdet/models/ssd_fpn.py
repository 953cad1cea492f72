"""SSD on a feature pyramid with one predictor for all its levels: Google's FPNLite, and a RetinaNet on MobileNets."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mbdet.backbones.base import Backbone
from mbdet.backbones.blocks import ConvConfig, Padding, activation, init_weights
from mbdet.models.detector import Detector, check_input_size, map_size, tapped_specs
from mbdet.models.fpn import FPN, conv3x3
from mbdet.models.heads import rows_by_anchor
from mbdet.ops.multiscale_anchors import MultiscaleAnchorConfig, multiscale_anchors
from mbdet.types import DetectorOutput


class SharedConv(nn.Module):
    """One 3x3 convolution for all levels, with batch norms of their own and ReLU6.

    The levels' activations differ in their statistics (TF's convolutional_box_predictor.py).
    """

    def __init__(
        self, in_channels: int, out_channels: int, num_levels: int, config: ConvConfig, separable: bool
    ) -> None:
        super().__init__()
        self.conv = conv3x3(in_channels, out_channels, config, separable)
        self.bns = nn.ModuleList(
            nn.BatchNorm2d(out_channels, config.bn_eps, config.bn_momentum) for _ in range(num_levels)
        )
        self.act = activation("relu6")

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Convolve every level."""
        return [self.act(bn(self.conv(x))) for bn, x in zip(self.bns, maps, strict=True)]


class SharedPredictor(nn.Module):
    """One 3x3 convolution with bias for all levels, and nothing after it."""

    def __init__(
        self, in_channels: int, num_anchors: int, num_outputs: int, config: ConvConfig, separable: bool
    ) -> None:
        super().__init__()
        self.conv = conv3x3(in_channels, num_anchors * num_outputs, config, separable, bias=True)
        self.num_outputs = num_outputs

    @property
    def last(self) -> nn.Conv2d:
        """The convolution whose outputs are the predictions."""
        return self.conv if isinstance(self.conv, nn.Conv2d) else self.conv.pointwise

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Map all levels to (B, A, num_outputs), in the order of `multiscale_anchors`."""
        return torch.cat([rows_by_anchor(self.conv(x), self.num_outputs) for x in maps], dim=1)


class SSDFPN(Detector):
    """A feature pyramid and a convolutional tower for all its levels (RetinaNet paper, arXiv 1708.02002).

    The defaults are those of Google's FPNLite (ssd_mobilenet_v2_fpnlite). Its ssd_mobilenet_v1_fpn has 256 channels,
    whole convolutions and separate towers.

    Args:
        backbone: Gives the feature maps.
        num_classes: K, background not counted; the class branch has K + 1 slots.
        input_size: Height and width of the network input in pixels.
        taps: Names of the backbone's maps to build the pyramid on, finest first.
        extra_levels: Levels added above the last tap.
        neck_channels: Width of the pyramid; TF scales it with the backbone, and the tower not.
        tower_channels: Width of the tower.
        tower_layers: Convolutions in the tower, before the predicting ones.
        separable: Whether the 3x3 convolutions are depthwise ones followed by 1x1.
        share_tower: Whether boxes and classes are predicted from the same tower.
        anchors: Sizes and shapes of the anchors.
        padding: As in the backbone: `symmetric` for PyTorch weights, `same` for TF weights.
        bn_eps: Batch norm constant of the pyramid and the tower.
        bn_momentum: Likewise.
        class_bias_init: Bias of the class predictor at the start: -4.6 means a score of 0.01 everywhere.

    Raises:
        ValueError: If a tap is not a map of the backbone, the taps do not halve their size, or the input is too small.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        input_size: tuple[int, int] = (320, 320),
        taps: Sequence[str] = ("c3", "c4", "c5"),
        extra_levels: int = 2,
        neck_channels: int = 128,
        tower_channels: int = 128,
        tower_layers: int = 4,
        separable: bool = True,
        share_tower: bool = True,
        anchors: MultiscaleAnchorConfig = MultiscaleAnchorConfig(),  # noqa: B008 -- frozen
        padding: Padding = "symmetric",
        bn_eps: float = 1e-3,
        bn_momentum: float = 0.03,
        class_bias_init: float = -4.6,
    ) -> None:
        super().__init__()
        specs = tapped_specs(backbone, taps)
        strides = [specs[0].stride * 2**level for level in range(len(specs) + extra_levels)]
        if [spec.stride for spec in specs] != strides[: len(specs)]:
            raise ValueError(
                f"taps {list(taps)} have strides {[spec.stride for spec in specs]}; in a pyramid each must be twice the"
                " one before, as with output_stride 32"
            )
        config = ConvConfig(padding, bn_eps, bn_momentum)
        self.input_size = check_input_size(input_size)
        self.num_classes = num_classes
        self.taps = tuple(taps)
        self.backbone = backbone
        self.neck = FPN([spec.channels for spec in specs], neck_channels, config, separable, extra_levels)

        def tower() -> nn.Sequential:
            widths = [neck_channels] + [tower_channels] * tower_layers
            return nn.Sequential(
                *(SharedConv(c, tower_channels, len(strides), config, separable) for c in widths[:tower_layers])
            )

        self.towers = nn.ModuleList(tower() for _ in range(1 if share_tower else 2))
        width = tower_channels if tower_layers else neck_channels
        self.box_head = SharedPredictor(width, anchors.per_cell, 4, config, separable)
        self.class_head = SharedPredictor(width, anchors.per_cell, num_classes + 1, config, separable)
        # The TF configs start all of them from 0.01, at which the epsilon of the batch norms silences separable layers.
        for part in (self.neck, self.towers, self.box_head, self.class_head):
            init_weights(part)
        for head in (self.box_head, self.class_head):
            init_weights(head.last, std=0.01)
        assert self.class_head.last.bias is not None
        nn.init.constant_(self.class_head.last.bias, class_bias_init)
        grids = [map_size(self.input_size, stride) for stride in strides]
        self.register_buffer("anchors", multiscale_anchors(grids, strides, self.input_size, anchors), persistent=False)

    def from_features(self, features: dict[str, Tensor]) -> DetectorOutput:
        """See `Detector.from_features`."""
        maps = self.neck([features[name] for name in self.taps])
        seen = [tower(maps) for tower in self.towers]
        return DetectorOutput(self.box_head(seen[0]), self.class_head(seen[-1]))
