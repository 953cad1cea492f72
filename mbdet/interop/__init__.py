"""mbdet's models where other libraries' are expected. Nothing here happens unless it is called."""

from mbdet.interop.timm_models import register_with_timm
from mbdet.interop.torchvision_detection import TorchvisionDetector
from mbdet.interop.torchvision_models import register_with_torchvision

__all__ = ["TorchvisionDetector", "register_with_timm", "register_with_torchvision"]
