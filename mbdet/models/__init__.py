"""Networks that can be trained and exported: a backbone with its heads."""

from mbdet.models.classifier import Classifier
from mbdet.models.deeplabv3 import DeepLabV3
from mbdet.models.detector import Detector
from mbdet.models.lraspp import LRASPP
from mbdet.models.multitask import MultiTask
from mbdet.models.network import Network
from mbdet.models.segmenter import Segmenter
from mbdet.models.ssd import SSD
from mbdet.models.ssd_fpn import SSDFPN
from mbdet.models.ssdlite import SSDLite

__all__ = [
    "LRASPP",
    "SSD",
    "SSDFPN",
    "Classifier",
    "DeepLabV3",
    "Detector",
    "MultiTask",
    "Network",
    "SSDLite",
    "Segmenter",
]
