"""What every detector promises."""

import math
from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor

from mbdet.backbones.base import Backbone, FeatureSpec
from mbdet.models.network import Network
from mbdet.types import DetectorOutput

MIN_INPUT_SIDE = 33  # as in the TF feature extractors; the coarser maps would all be one cell


class Detector(Network):
    """A network that turns images into raw predictions for a fixed set of anchors.

    Attributes:
        backbone: Its weights can be loaded apart from the heads'.
        num_classes: K, background not counted.
        input_size: Height and width that `forward` takes.
        anchors: (A, 4) float32 xyxy pixels of the network input. Not in the state dict: they follow from the
            constructor's arguments.
    """

    kind = "detector"
    anchors: Tensor

    def forward(self, images: Tensor) -> DetectorOutput:
        """Predict, in training and in evaluation alike.

        Args:
            images: (B, 3, H, W) RGB in [0, 255], uint8 or floating point, of `input_size`.

        Returns:
            Raw predictions; loss and decoding are functions beside the network (`mbdet.ops`).

        Raises:
            ValueError: If the images are not of `input_size`.
        """
        self.check_images(images)
        return self.from_features(self.backbone(images))

    @abstractmethod
    def from_features(self, features: dict[str, Tensor]) -> DetectorOutput:
        """Do what `forward` does after the backbone, whose maps may serve other heads too.

        Args:
            features: What the backbone returns of images of `input_size`.

        Returns:
            See `forward`.
        """

    def check_images(self, images: Tensor) -> None:
        """Refuse images of another size, whose predictions would not belong to the anchors.

        Raises:
            ValueError: If the images are not of `input_size`.
        """
        if tuple(images.shape[-2:]) != self.input_size:
            raise ValueError(f"images are {tuple(images.shape[-2:])}, the detector was built for {self.input_size}")


def check_input_size(input_size: Sequence[int]) -> tuple[int, int]:
    """Return height and width.

    Raises:
        ValueError: If a side is too small.
    """
    height, width = input_size
    if min(height, width) < MIN_INPUT_SIDE:
        raise ValueError(f"input_size is {(height, width)}; a detector needs sides of {MIN_INPUT_SIDE} pixels or more")
    return height, width


def tapped_specs(backbone: Backbone, taps: Sequence[str]) -> list[FeatureSpec]:
    """Return the specs of the maps that a detector takes from its backbone.

    Raises:
        ValueError: If a tap is not a map of the backbone.
    """
    unknown = [name for name in taps if name not in backbone.specs]
    if unknown:
        raise ValueError(f"taps {unknown} are not maps of the backbone; it gives {list(backbone.specs)}")
    return [backbone.specs[name] for name in taps]


def map_size(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """Return the cells, down and across, of a map `stride` times coarser than something of `size`."""
    height, width = size
    return math.ceil(height / stride), math.ceil(width / stride)
