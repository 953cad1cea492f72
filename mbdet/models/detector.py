"""What every detector promises."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from mbdet.backbones.base import Backbone
from mbdet.types import DetectorOutput


class Detector(nn.Module, ABC):
    """A network that turns images into raw predictions for a fixed set of anchors.

    Attributes:
        backbone: Its weights can be loaded apart from the heads'.
        num_classes: K, background not counted.
        input_size: Height and width that `forward` takes.
        anchors: (A, 4) float32 xyxy pixels of the network input. Not in the state dict: they follow from the
            constructor's arguments.
    """

    backbone: Backbone
    num_classes: int
    input_size: tuple[int, int]
    anchors: Tensor

    @abstractmethod
    def forward(self, images: Tensor) -> DetectorOutput:
        """Predict, in training and in evaluation alike.

        Args:
            images: (B, 3, H, W) RGB in [0, 255], uint8 or floating point, of `input_size`.

        Returns:
            Raw predictions; loss and decoding are functions beside the network (`mbdet.ops`).
        """
