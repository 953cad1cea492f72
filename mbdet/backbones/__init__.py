"""Networks from images to named feature maps."""

from mbdet.backbones.base import Backbone, FeatureSpec
from mbdet.backbones.mobilenet_v1 import MobileNetV1
from mbdet.backbones.mobilenet_v2 import MobileNetV2
from mbdet.backbones.mobilenet_v3 import MobileNetV3
from mbdet.backbones.timm import TimmBackbone

__all__ = ["Backbone", "FeatureSpec", "MobileNetV1", "MobileNetV2", "MobileNetV3", "TimmBackbone"]
