"""What the file of a segmenter computes: the class of every pixel."""

from collections.abc import Iterable, Mapping
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mbdet.export.base import Export, Pair, compare_probabilities, difference
from mbdet.models import Segmenter
from mbdet.runtime.image import MEAN_COLOUR, Resizing

# Largest difference of a probability between file and network that rounding explains: more than of a detector's scores,
# because of the millions in a map the worst counts.
TOLERANCE = 1e-3


class SegmentationParity(NamedTuple):
    """How far a file's maps of classes are from the network's."""

    pixels: int  # how many were compared
    differing: int  # of them, all where rounding decides between two classes
    classes: int  # how many classes the network's maps show
    probability: float  # largest difference

    def __str__(self) -> str:
        share = 1 - self.differing / self.pixels
        return (
            f"{share:.4%} of {self.pixels} pixels, which show {self.classes} class{'es' * (self.classes != 1)}"
            f" (probabilities to {self.probability:.2g})"
        )


class SegmentationExport(Export[SegmentationParity]):
    """Network and the choice of the likeliest class at each pixel of the network input.

    The network is tested once, at the size of its input, whatever `test_scales` a task has.

    Args:
        network: The segmenter; an auxiliary head is left out.
        resizing: How pictures are brought to the network input.
    """

    task = "segmentation"
    outputs: ClassVar[Mapping[str, str]] = {
        "classes": "indices into class_names, of each pixel of the network input",
        "probabilities": "of each class at each pixel of the network input",
    }
    optional = ("probabilities",)
    network: Segmenter

    def __init__(self, network: Segmenter, resizing: Resizing) -> None:
        super().__init__(network)
        self.preparation = prepared(resizing)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """See `Export.forward`: classes (B, H, W) uint8, probabilities (B, K, H, W) float32."""
        return class_maps(self.network(images).logits)

    def compare(self, pairs: Iterable[Pair]) -> SegmentationParity:
        """See `compare_maps`."""
        return compare_maps(pairs)


def prepared(resizing: Resizing) -> dict[str, object]:
    """Describe for the metadata how pictures are brought to the network input."""
    if resizing == "stretch":
        return {"resize": resizing}
    return {"resize": resizing, "position": "top left", "padding_color": MEAN_COLOUR}


def class_maps(logits: Tensor) -> dict[str, Tensor]:
    """Return `classes` (B, H, W) uint8 and `probabilities` (B, K, H, W) float32 of logits (B, K, H, W)."""
    return {"classes": logits.argmax(1).to(torch.uint8), "probabilities": logits.float().softmax(1)}


def compare_maps(pairs: Iterable[Pair]) -> SegmentationParity:
    """Compare the class of every pixel, and where the file has them the probabilities.

    Another class than the network's is rounding only where the network has it as probable as its own.

    Args:
        pairs: Of all images.

    Raises:
        InputError: At the first output that differs.
    """
    pixels, differing, probability, shown = 0, 0, 0.0, set[int]()
    for pair in pairs:
        if "probabilities" in pair.actual:
            probability = max(probability, compare_probabilities(pair, TOLERANCE))
        likely, own, other = pair.expected["probabilities"], pair.expected["classes"], pair.actual["classes"]
        # A class that does not exist has the probability of the last here, and is refused below.
        inside = np.minimum(other, len(likely) - 1)
        gaps = np.take_along_axis(likely, own[None], 0)[0] - np.take_along_axis(likely, inside[None], 0)[0]
        wrong = (own != other) & ~((gaps <= 2 * TOLERANCE) & (other < len(likely)))
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise difference(
                "classes",
                f"row {row}, column {column} of comparison image {pair.image} is class {other[row, column]}, not"
                f" {own[row, column]}, and so differ {wrong.sum()} pixels of it",
            )
        pixels, differing = pixels + own.size, differing + int((own != other).sum())
        shown.update(np.unique(own).tolist())
    return SegmentationParity(pixels, differing, len(shown), probability)
