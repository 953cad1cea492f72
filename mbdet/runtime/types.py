"""What a prediction is, without torch."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Detections(NamedTuple):
    """Objects found in one image, best first."""

    boxes: NDArray[np.float32]  # (N, 4) xyxy pixels of the original image
    scores: NDArray[np.float32]  # (N,) descending, in [0, 1]
    labels: NDArray[np.int64]  # (N,) 0..K-1, indices into the class names


class Classification(NamedTuple):
    """The likeliest classes of one image, best first, at most five."""

    scores: NDArray[np.float32]  # (N,) descending probabilities
    labels: NDArray[np.int64]  # (N,) 0..K-1, indices into the class names
