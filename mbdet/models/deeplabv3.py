"""DeepLabv3 (arXiv 1706.05587) and v3+ on MobileNets, as in Google's research/deeplab, and torchvision's variant."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mbdet.backbones.base import Backbone
from mbdet.backbones.blocks import ConvBNAct, ConvConfig, depthwise, init_weights
from mbdet.models.segmenter import Segmenter, check_segmenter, resize
from mbdet.types import SegmenterOutput

RATES_AT_STRIDE_16 = (6, 12, 18)
LOW_LEVEL_CHANNELS = 48  # of the fine map in DeepLabv3+


class LoneBatchNorm2d(nn.BatchNorm2d):
    """Batch norm that trains on a single value per channel too: it uses its running statistics, and leaves them alone.

    One value has no variance. PyTorch refuses it, which would end a training whose last batch has one image; and less
    its own mean, every value is the same zero.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, H, W)."""
        if self.training and x.shape[0] * x.shape[2] * x.shape[3] == 1:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


class ImagePooling(ConvBNAct):
    """Average of the whole map, 1x1 convolution, batch norm and ReLU, given to every cell."""

    def __init__(self, in_channels: int, out_channels: int, config: ConvConfig) -> None:
        super().__init__(in_channels, out_channels, config, act="relu")
        self.bn = LoneBatchNorm2d(out_channels, config.bn_eps, config.bn_momentum)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C', h, w)."""
        return super().forward(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])


class AuxiliaryHead(nn.Module):
    """torchvision's FCNHead: 3x3 convolution to a quarter of the channels, dropout, classifier."""

    def __init__(self, in_channels: int, num_classes: int, config: ConvConfig) -> None:
        super().__init__()
        self.conv = ConvBNAct(in_channels, in_channels // 4, config, kernel_size=3, act="relu")
        self.dropout = nn.Dropout(0.1)
        self.classifier = nn.Conv2d(in_channels // 4, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to logits (B, K, h, w)."""
        out: Tensor = self.classifier(self.dropout(self.conv(x)))
        return out


class DeepLabV3(Segmenter):
    """Atrous spatial pyramid pooling over `c5`, and what may follow it.

    Published networks:

    - MobileNetV2 paper, section 6.3: `rates=()`, on `MobileNetV2(last_channels=None, output_stride=16)`; with the
      default rates it is the one that they call ASPP.
    - DeepLabv3+: `low_level="c2_depthwise"`, `separable=True`.
    - torchvision's deeplabv3_mobilenet_v3_large: `rates=(12, 24, 36)`, `refinements=1`, `aux="c3_first"`,
      `dropout=0.5`, `align_corners=False`, on `MobileNetV3(output_stride=16, dilation="torchvision")`.

    Args:
        backbone: Gives the feature maps.
        num_classes: K, the data set's own classes.
        input_size: Height and width of the images that it is meant for; others work too.
        rates: Dilations of the 3x3 convolutions beside image pooling and 1x1 convolution. An empty list leaves these
            two, the papers' "without ASPP" or R-ASPP. By default 6, 12 and 18 at output stride 16, and in proportion at
            others (paper, section 3.3).
        channels: Of every branch and after them.
        separable: Whether the 3x3 convolutions over all channels are depthwise ones with 1x1 convolutions instead.
        low_level: Name of a finer map to grow to and to join with, as DeepLabv3+ does.
        refinements: Number of 3x3 convolutions before the classifier; by default 2 with `low_level`, else none.
        aux: Name of a map for an auxiliary head, which learns beside the main one.
        dropout: Probability of zeroing a channel before the classifier, or the refinements.
        align_corners: How maps grow, see `resize`.
        bn_eps: Batch norm constant of everything but the backbone.
        bn_momentum: Likewise; the paper's decay of 0.9997 is 0.0003 here, which needs some ten thousand steps to
            follow.

    Raises:
        ValueError: If `low_level` or `aux` is not a map of the backbone, or a number is out of range.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        input_size: tuple[int, int] = (513, 513),
        rates: Sequence[int] | None = None,
        channels: int = 256,
        separable: bool = False,
        low_level: str | None = None,
        refinements: int | None = None,
        aux: str | None = None,
        dropout: float = 0.1,
        align_corners: bool = True,
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        check_segmenter(backbone, num_classes, input_size, "c5", low_level, aux)
        in_channels, stride = backbone.specs["c5"]
        if rates is None:
            rates = [rate * 16 // stride for rate in RATES_AT_STRIDE_16]
        if refinements is None:
            refinements = 0 if low_level is None else 2
        if min([channels, *rates]) < 1 or refinements < 0:
            raise ValueError(
                f"rates {list(rates)}, channels {channels}, refinements {refinements}: give rates and channels of 1 or"
                " more, and refinements of 0 or more"
            )
        self.num_classes = num_classes
        self.input_size = (input_size[0], input_size[1])
        self.low_level, self.aux = low_level, aux
        self.align_corners = align_corners
        self.backbone = backbone

        config = ConvConfig(bn_eps=bn_eps, bn_momentum=bn_momentum)
        self.image_pooling = ImagePooling(in_channels, channels, config)
        self.aspp = nn.ModuleList([ConvBNAct(in_channels, channels, config, act="relu")])
        self.aspp.extend(_conv3x3(in_channels, channels, config, separable, rate) for rate in rates)
        self.projection = ConvBNAct((1 + len(self.aspp)) * channels, channels, config, act="relu")
        self.dropout = nn.Dropout(dropout)
        widths = [channels] * (refinements + 1)
        if low_level is not None:
            low_channels = backbone.specs[low_level].channels
            self.low_projection = ConvBNAct(low_channels, LOW_LEVEL_CHANNELS, config, act="relu")
            widths[0] += LOW_LEVEL_CHANNELS
        self.refinements = nn.Sequential(*(_conv3x3(width, channels, config, separable) for width in widths[:-1]))
        self.classifier = nn.Conv2d(widths[-1], num_classes, 1)
        if aux is not None:
            self.aux_head = AuxiliaryHead(backbone.specs[aux].channels, num_classes, config)
        for name, part in self.named_children():
            if name != "backbone":
                init_weights(part)
        init_weights(self.classifier, std=0.01)

    def from_features(self, features: dict[str, Tensor], size: Sequence[int]) -> SegmenterOutput:
        """See `Segmenter.from_features`."""
        high = features["c5"]
        branches = [self.image_pooling(high), *(branch(high) for branch in self.aspp)]  # in Google's order
        x = self.dropout(self.projection(torch.cat(branches, dim=1)))
        if self.low_level is not None:
            low = self.low_projection(features[self.low_level])
            x = torch.cat([resize(x, low.shape[-2:], self.align_corners), low], dim=1)
        logits = resize(self.classifier(self.refinements(x)), size, self.align_corners)
        if self.aux is None:
            return SegmenterOutput(logits, None)
        return SegmenterOutput(logits, resize(self.aux_head(features[self.aux]), size, self.align_corners))


def _conv3x3(in_channels: int, out_channels: int, config: ConvConfig, separable: bool, dilation: int = 1) -> nn.Module:
    if not separable:
        return ConvBNAct(in_channels, out_channels, config, kernel_size=3, dilation=dilation, act="relu")
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        depthwise=depthwise(in_channels, config, dilation=dilation, act="relu"),
        pointwise=ConvBNAct(in_channels, out_channels, config, act="relu"),
    )
    return nn.Sequential(layers)
