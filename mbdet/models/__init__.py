"""Networks that can be trained and exported: a backbone with its heads."""

from mbdet.models.classifier import Classifier
from mbdet.models.detector import Detector
from mbdet.models.network import Network
from mbdet.models.ssd import SSD
from mbdet.models.ssd_fpn import SSDFPN
from mbdet.models.ssdlite import SSDLite

__all__ = ["SSD", "SSDFPN", "Classifier", "Detector", "Network", "SSDLite"]
