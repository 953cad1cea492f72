"""What every segmenter promises, and how its maps grow."""

from abc import ABC, abstractmethod

from torch import Tensor, nn
from torch.nn import functional as F

from mbdet.backbones.base import Backbone
from mbdet.types import SegmenterOutput


class Segmenter(nn.Module, ABC):
    """A network that turns images into the logits of a class for every pixel.

    Attributes:
        backbone: Its weights can be loaded apart from the heads'.
        num_classes: K, the data set's own classes: 21 of Pascal VOC, its background among them.
        input_size: Height and width of the images that it is meant for; others work too.
    """

    backbone: Backbone
    num_classes: int
    input_size: tuple[int, int]

    @abstractmethod
    def forward(self, images: Tensor) -> SegmenterOutput:
        """Predict, in training and in evaluation alike.

        Args:
            images: (B, 3, H, W) RGB in [0, 255], uint8 or floating point, of any size.

        Returns:
            Logits at the resolution of the images; no softmax.
        """


def resize(x: Tensor, like: Tensor, align_corners: bool) -> Tensor:
    """Resize a map to the height and width of another, bilinearly.

    Args:
        x: (B, C, h, w).
        like: (..., H, W).
        align_corners: Whether the centres of the corner cells lie upon each other, as in Google's code, or the edges of
            the maps, as in torchvision's.

    Returns:
        (B, C, H, W).
    """
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=align_corners)


def check_segmenter(backbone: Backbone, num_classes: int, input_size: tuple[int, int], *taps: str | None) -> None:
    """Refuse what no segmenter can be built from.

    Args:
        backbone: Gives the feature maps.
        num_classes: K.
        input_size: Height and width.
        taps: Names of maps of the backbone.

    Raises:
        ValueError: If a tap is not a map of the backbone, or a number is less than 1.
    """
    unknown = [tap for tap in taps if tap is not None and tap not in backbone.specs]
    if unknown:
        raise ValueError(f"{unknown} are not maps of the backbone; it gives {list(backbone.specs)}")
    if num_classes < 1 or min(input_size) < 1:
        raise ValueError(f"num_classes {num_classes}, input_size {tuple(input_size)}: give 1 or more of each")
