"""Networks from images to named feature maps."""

from mbdet.backbones.base import Backbone, FeatureSpec
from mbdet.backbones.mobilenet_v2 import MobileNetV2

__all__ = ["Backbone", "FeatureSpec", "MobileNetV2"]
