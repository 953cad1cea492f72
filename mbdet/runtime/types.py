"""What a prediction is, without torch."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

IGNORED = 255  # stands in a map of classes where a pixel does not count


class Detections(NamedTuple):
    """Objects found in one image, best first."""

    boxes: NDArray[np.float32]  # (N, 4) xyxy pixels of the original image
    scores: NDArray[np.float32]  # (N,) descending, in [0, 1]
    labels: NDArray[np.int64]  # (N,) 0..K-1, indices into the class names

    def where(self, keep: NDArray[np.bool_]) -> "Detections":
        """Return those that are to be kept, (N,), in the same order."""
        return Detections(self.boxes[keep], self.scores[keep], self.labels[keep])


class Classification(NamedTuple):
    """The likeliest classes of one image, best first, at most five."""

    scores: NDArray[np.float32]  # (N,) descending probabilities
    labels: NDArray[np.int64]  # (N,) 0..K-1, indices into the class names


class Segmentation(NamedTuple):
    """The class of every pixel of one image."""

    classes: NDArray[np.uint8]  # (H, W) of the original image, 0..K-1, or 255 where no class scores enough
    scores: NDArray[np.float32] | None  # (H, W) probability of that class; None where the model file has none


class MultiTaskPrediction(NamedTuple):
    """Objects and classes of one image."""

    detections: Detections
    segmentation: Segmentation
