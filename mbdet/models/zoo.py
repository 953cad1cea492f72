"""One plain function per published detector, with the constants of its source and random weights.

V2 and V3 keep slim's least width of 8 channels here, with which the papers' counts at widths below 1 come out (929,531
parameters of V2 at 0.35). The TF Object Detection API passes 16 instead, as it does to V1; for weights trained there at
a width of 0.5 or less build the backbone with `min_channels=16`.
"""

from mbdet.backbones import MobileNetV1, MobileNetV2, MobileNetV3
from mbdet.backbones.base import TF_MEAN, TF_STD, Backbone
from mbdet.backbones.mobilenet_v3 import Variant
from mbdet.models.ssdlite import SSDLite
from mbdet.ops.anchors import AnchorConfig

EXTRA_CHANNELS = (512, 256, 256, 128)
MIN_CHANNELS = 16  # of V1 and of the extra layers
# TF's running averages keep 0.97 in its later configs. The V1 and V2 files of 2018 say 0.9997, which needs some ten
# thousand steps to follow and makes no difference to published weights.
BN_EPS, BN_MOMENTUM = 1e-3, 0.03


def ssdlite_mobilenet_v1(
    num_classes: int = 80, input_size: tuple[int, int] = (320, 320), width_mult: float = 1.0
) -> SSDLite:
    """SSDLite on MobileNetV1 (MobileNetV2 paper, Table 6; `ssdlite_mobilenet_v1_coco` of the TF Object Detection API).

    Args:
        num_classes: K, background not counted.
        input_size: Height and width of the network input in pixels.
        width_mult: Scales the widths of backbone and extra layers.
    """
    backbone = MobileNetV1(
        width_mult,
        min_channels=MIN_CHANNELS,
        padding="same",
        bn_eps=BN_EPS,
        bn_momentum=BN_MOMENTUM,
        mean=TF_MEAN,
        std=TF_STD,
    )
    return _tf_ssdlite(backbone, num_classes, input_size, width_mult)


def ssdlite_mobilenet_v2(
    num_classes: int = 80, input_size: tuple[int, int] = (320, 320), width_mult: float = 1.0
) -> SSDLite:
    """SSDLite on MobileNetV2 (its paper, Table 6; `ssdlite_mobilenet_v2_coco` of the TF Object Detection API).

    Google's published weights are for `input_size` (300, 300).

    Args:
        num_classes: K, background not counted.
        input_size: Height and width of the network input in pixels.
        width_mult: Scales the widths of backbone and extra layers, the last convolution included.
    """
    backbone = MobileNetV2(
        width_mult,
        scale_last=True,
        padding="same",
        bn_eps=BN_EPS,
        bn_momentum=BN_MOMENTUM,
        mean=TF_MEAN,
        std=TF_STD,
    )
    return _tf_ssdlite(backbone, num_classes, input_size, width_mult)


def ssdlite_mobilenet_v3_large(
    num_classes: int = 80,
    input_size: tuple[int, int] = (320, 320),
    width_mult: float = 1.0,
    reduced_tail: bool = True,
) -> SSDLite:
    """SSDLite on MobileNetV3-Large (its paper, Table 6; `ssdlite_mobilenet_v3_large_320x320_coco` of the TF API).

    Args:
        num_classes: K, background not counted.
        input_size: Height and width of the network input in pixels.
        width_mult: Scales the widths of backbone and extra layers.
        reduced_tail: Halve the channels between C4 and C5, as the paper's dagger rows and the published weights do.
    """
    return _tf_ssdlite(_tf_mobilenet_v3("large", width_mult, reduced_tail), num_classes, input_size, width_mult)


def ssdlite_mobilenet_v3_small(
    num_classes: int = 80,
    input_size: tuple[int, int] = (320, 320),
    width_mult: float = 1.0,
    reduced_tail: bool = True,
) -> SSDLite:
    """SSDLite on MobileNetV3-Small (its paper, Table 6; `ssdlite_mobilenet_v3_small_320x320_coco` of the TF API).

    Args:
        num_classes: K, background not counted.
        input_size: Height and width of the network input in pixels.
        width_mult: Scales the widths of backbone and extra layers.
        reduced_tail: Halve the channels between C4 and C5, as the paper's dagger rows and the published weights do.
    """
    return _tf_ssdlite(_tf_mobilenet_v3("small", width_mult, reduced_tail), num_classes, input_size, width_mult)


def torchvision_ssdlite_mobilenet_v3_large(num_classes: int = 90, input_size: tuple[int, int] = (320, 320)) -> SSDLite:
    """Torchvision's `ssdlite320_mobilenet_v3_large`: other padding and anchors, six of them in the first map too.

    Its scores are a softmax: train it on `SoftmaxSSDLoss` and decode it with `Postprocess(scores="softmax")`.

    Args:
        num_classes: K, background not counted; torchvision's weights have 90.
        input_size: Height and width of the network input in pixels.
    """
    backbone = MobileNetV3(
        "large",
        reduced_tail="detection",
        bn_eps=BN_EPS,
        bn_momentum=BN_MOMENTUM,
        mean=TF_MEAN,
        std=TF_STD,
    )
    return SSDLite(
        backbone,
        num_classes,
        input_size,
        extra_channels=EXTRA_CHANNELS,
        anchors=AnchorConfig("torchvision"),
        bn_eps=BN_EPS,
        bn_momentum=BN_MOMENTUM,
    )


def _tf_mobilenet_v3(variant: Variant, width_mult: float, reduced_tail: bool) -> MobileNetV3:
    return MobileNetV3(
        variant,
        width_mult=width_mult,
        reduced_tail="detection" if reduced_tail else None,
        padding="same",
        bn_eps=BN_EPS,
        bn_momentum=BN_MOMENTUM,
        mean=TF_MEAN,
        std=TF_STD,
    )


def _tf_ssdlite(backbone: Backbone, num_classes: int, input_size: tuple[int, int], width_mult: float) -> SSDLite:
    """Add heads and extra layers as the TF feature extractors do, the latter scaled with the backbone."""
    return SSDLite(
        backbone,
        num_classes,
        input_size,
        extra_channels=[max(int(width * width_mult), MIN_CHANNELS) for width in EXTRA_CHANNELS],
        padding="same",
        bn_eps=BN_EPS,
        bn_momentum=BN_MOMENTUM,
        min_extra_channels=MIN_CHANNELS,
    )
