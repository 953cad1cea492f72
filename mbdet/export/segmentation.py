"""What the file of a segmenter computes: the class of every pixel."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mbdet.errors import InputError
from mbdet.export.base import DifferenceError, Export, Form, Pair, Precision, compare_probabilities
from mbdet.models import Segmenter
from mbdet.runtime.image import MEAN_COLOUR, Resizing

# Largest difference of a probability between file and network that rounding explains: more than of a detector's scores,
# because of the millions in a map the worst counts.
TOLERANCE = 1e-3
# See `compare_probabilities`. Google's DeepLabv3 on MobileNetV2 comes to 0.04 at most in int8, on pictures of COCO.
TOLERANCES: dict[Precision, float] = {"fp32": TOLERANCE, "fp16": 0.02, "int8": 0.2}
AGREEING = {"fp16": 0.98, "int8": 0.85}  # share of the pixels that must have the network's class


class SegmentationParity(NamedTuple):
    """How far a file's maps of classes are from the network's."""

    pixels: int  # how many were compared
    differing: int  # of them, all where rounding decides between two classes
    classes: int  # how many classes the network's maps show
    probability: float | None  # largest difference, where the file has them

    @property
    def share(self) -> float:
        """Of the pixels, those that agree."""
        return 1 - self.differing / self.pixels

    def __str__(self) -> str:
        return (
            f"{self.share:.4%} of {self.pixels} pixels, which show {self.classes} class{'es' * (self.classes != 1)}"
            + ("" if self.probability is None else f" (probabilities to {self.probability:.2g})")
        )


class SegmentationExport(Export[SegmentationParity]):
    """Network and the choice of the likeliest class at each pixel of the network input.

    The network is tested once, at the size of its input, whatever `test_scales` a task has.

    Args:
        network: The segmenter; an auxiliary head is left out.
        resizing: How pictures are brought to the network input.
    """

    task = "segmentation"
    network: Segmenter

    def __init__(self, network: Segmenter, resizing: Resizing) -> None:
        super().__init__(network)
        self.preparation = prepared(resizing)

    def outputs(self, form: Form) -> dict[str, str]:
        """See `Export.outputs`."""
        return map_outputs(form, "class_names")

    def forward(self, images: Tensor, form: Form) -> dict[str, Tensor]:
        """See `Export.forward` and `class_maps`."""
        return class_maps(self.network(images).logits, form)

    def compare(self, pairs: Iterable[Pair], precision: Precision) -> SegmentationParity:
        """See `compare_maps`."""
        return compare_maps(pairs, precision)


def prepared(resizing: Resizing) -> dict[str, object]:
    """Describe for the metadata how pictures are brought to the network input."""
    if resizing == "stretch":
        return {"resize": resizing}
    return {"resize": resizing, "position": "top left", "padding_color": MEAN_COLOUR}


def map_outputs(form: Form, names: str) -> dict[str, str]:
    """Describe the outputs of `class_maps`.

    Args:
        form: Which outputs.
        names: Where the description has the names of the classes.
    """
    described = {"classes": f"indices into {names}, of each pixel of the network input"} if form.argmax else {}
    if form.probabilities:
        return {**described, "probabilities": "of each class at each pixel of the network input"}
    return described or {"logits": f"of each of {names} at each pixel of the network input; the largest is its class"}


def class_maps(logits: Tensor, form: Form) -> dict[str, Tensor]:
    """Return what a file gives for the pixels of the network input.

    Args:
        logits: (B, K, H, W).
        form: Which outputs.

    Returns:
        `classes` (B, H, W) uint8, `probabilities` (B, K, H, W) float32, or in place of both `logits`.
    """
    maps = {"classes": logits.argmax(1).to(torch.uint8)} if form.argmax else {}
    if form.probabilities:
        return {**maps, "probabilities": logits.float().softmax(1)}
    return maps or {"logits": logits.float()}


def compare_maps(pairs: Iterable[Pair], precision: Precision) -> SegmentationParity:
    """Compare the class of every pixel, and where the file has them the probabilities.

    In single precision, another class than the network's is rounding only where the network has it as probable as its
    own; in fewer bits, `AGREEING` of the pixels must have the network's class.

    Args:
        pairs: Of all images.
        precision: Of the file.

    Raises:
        InputError: At the first output that differs; or if the network's maps show one class alone and the file has no
            probabilities, which would prove little.
    """
    pixels, differing, probability, compared, shown = 0, 0, 0.0, False, set[int]()
    for pair in pairs:
        if "probabilities" in pair.actual:
            compared = True
            probability = max(probability, compare_probabilities(pair, precision, TOLERANCES))
        likely, own, other = pair.expected["probabilities"], pair.expected["classes"], pair.actual["classes"]
        # A class that does not exist has the probability of the last here, and is refused below.
        inside = np.minimum(other, len(likely) - 1)
        gaps = np.take_along_axis(likely, own[None], 0)[0] - np.take_along_axis(likely, inside[None], 0)[0]
        wrong = (own != other) & ~((gaps <= 2 * TOLERANCE) & (other < len(likely)))
        if wrong.any() and precision == "fp32":
            row, column = np.argwhere(wrong)[0]
            raise DifferenceError(
                "classes",
                f"row {row}, column {column} of comparison image {pair.image} is class {other[row, column]}, not"
                f" {own[row, column]}, and so differ {wrong.sum()} pixels of it",
            )
        pixels, differing = pixels + own.size, differing + int((own != other).sum())
        shown.update(np.unique(own).tolist())
    if precision != "fp32" and 1 - differing / pixels < AGREEING[precision]:
        raise DifferenceError(
            "classes",
            f"{differing / pixels:.1%} of {pixels} pixels have another class, more than {precision} explains",
        )
    if len(shown) == 1 and not compared:
        raise InputError(
            "the network finds one class alone in the comparison images, so the exported file cannot be verified and"
            " was not kept; give pictures that show more with --images FOLDER"
        )
    return SegmentationParity(pixels, differing, len(shown), probability if compared else None)
