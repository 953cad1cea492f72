"""What every segmenter promises, and how its maps grow."""

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from mbdet.backbones.base import Backbone
from mbdet.models.network import Network
from mbdet.runtime.types import IGNORED
from mbdet.types import SegmenterOutput


class Segmenter(Network):
    """A network that turns images into the logits of a class for every pixel.

    Its `num_classes` are the data set's own: 21 of Pascal VOC, its background among them. Images of another size than
    `input_size` work too.
    """

    kind = "segmenter"

    def forward(self, images: Tensor) -> SegmenterOutput:
        """Predict, in training and in evaluation alike.

        Args:
            images: (B, 3, H, W) RGB in [0, 255], uint8 or floating point, of any size.

        Returns:
            Logits at the resolution of the images; no softmax.
        """
        return self.from_features(self.backbone(images), images.shape[-2:])

    @abstractmethod
    def from_features(self, features: dict[str, Tensor], size: Sequence[int]) -> SegmenterOutput:
        """Do what `forward` does after the backbone, whose maps may serve other heads too.

        Args:
            features: What the backbone returns.
            size: Height and width of the images, and of the logits.

        Returns:
            See `forward`.
        """


def resize(x: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    """Resize a map bilinearly.

    Args:
        x: (B, C, h, w).
        size: H and W.
        align_corners: Whether the centres of the corner cells lie upon each other, as in Google's code, or the edges of
            the maps, as in torchvision's.

    Returns:
        (B, C, H, W).
    """
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=align_corners)


def check_segmenter(backbone: Backbone, num_classes: int, input_size: tuple[int, int], *taps: str | None) -> None:
    """Refuse what no segmenter can be built from.

    Args:
        backbone: Gives the feature maps.
        num_classes: K.
        input_size: Height and width.
        taps: Names of maps of the backbone.

    Raises:
        ValueError: If a tap is not a map of the backbone, a number is less than 1, or there are more than 255
            classes.
    """
    unknown = [tap for tap in taps if tap is not None and tap not in backbone.specs]
    if unknown:
        raise ValueError(f"{unknown} are not maps of the backbone; it gives {list(backbone.specs)}")
    if num_classes < 1 or min(input_size) < 1:
        raise ValueError(f"num_classes {num_classes}, input_size {tuple(input_size)}: give 1 or more of each")
    if num_classes > IGNORED:
        raise ValueError(
            f"num_classes {num_classes}: maps of classes have 8 bits and 255 does not count; give 255 at most"
        )
