"""SSDLite (MobileNetV2 paper, section 6.2, in the form of the TF Object Detection API)."""

from collections.abc import Sequence

from mbdet.backbones.base import Backbone
from mbdet.backbones.blocks import Padding
from mbdet.models.ssd import SSD
from mbdet.ops.anchors import AnchorConfig


class SSDLite(SSD):
    """SSD with depthwise separable predictors and extra layers.

    Args:
        backbone: See `SSD`, as for all that follow.
        num_classes: K, background not counted.
        input_size: Height and width of the network input in pixels.
        taps: Names of the backbone's maps to predict from, finest first.
        extra_channels: Widths of the maps added after the last tap.
        anchors: Layout of the default boxes.
        padding: As in the backbone: `symmetric` for PyTorch weights, `same` for TF weights.
        bn_eps: Batch norm constant of the heads and extra layers.
        bn_momentum: Likewise.
        class_bias_init: Bias of the class predictors at the start. The TF configs state -4.6, but their separable heads
            ignore it, hence 0.
        min_extra_channels: The added maps come from no fewer channels.

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
        min_extra_channels: int = 1,
    ) -> None:
        super().__init__(
            backbone,
            num_classes,
            input_size,
            taps,
            extra_channels,
            "separable",
            "separable",
            anchors,
            padding,
            bn_eps,
            bn_momentum,
            class_bias_init,
            min_extra_channels,
        )
