"""What the file of a detector computes: decoded detections."""

from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any, ClassVar, NamedTuple

import numpy as np
from torch import Tensor

from mbdet.errors import InputError
from mbdet.export.base import SCORE_TOLERANCE, Export, Pair, difference
from mbdet.models import Detector
from mbdet.ops import Postprocess

# Largest difference between file and network that rounding explains, in pixels.
BOX_TOLERANCE = 0.05


class DetectionParity(NamedTuple):
    """How far a file's detections are from the network's."""

    box: float  # pixels of the network input
    score: float
    detections: int  # how many were compared

    def __str__(self) -> str:
        return f"{self.detections} detections (boxes to {self.box:.2g} px, scores to {self.score:.2g})"


class DetectionExport(Export[DetectionParity]):
    """Network, decoding and NMS.

    Args:
        network: The detector.
        postprocess: Its decoding and NMS.
    """

    task = "detection"
    outputs: ClassVar[Mapping[str, str]] = {
        "boxes": "xyxy pixels of the network input, best first",
        "scores": "0 on padding",
        "labels": "indices into class_names, -1 on padding",
        "counts": "how many are detections, the rest is padding",
    }
    network: Detector

    def __init__(self, network: Detector, postprocess: Postprocess) -> None:
        super().__init__(network)
        self.preparation = {"resize": "stretch"}
        self.postprocess = postprocess

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """See `Export.forward`; the outputs are the fields of `PaddedDetections`."""
        return self.postprocess(self.network(images), self.network.anchors, self.network.input_size)._asdict()

    def compare(self, pairs: Iterable[Pair]) -> DetectionParity:
        """See `compare_detections`."""
        return compare_detections(pairs, self.postprocess.score_threshold)


def compare_detections(pairs: Iterable[Pair], score_threshold: float) -> DetectionParity:
    """Compare the detections of a file with those of the network.

    Each detection of one must have a counterpart of its own in the other. Only those that score within the tolerance of
    the lowest kept score, or less, may be in one result and not in the other.

    Args:
        pairs: Of all images.
        score_threshold: Of the decoding.

    Raises:
        InputError: At the first output that differs, or if the network finds nothing in any image.
    """
    box, score, count = 0.0, 0.0, 0
    for _, expected, actual in pairs:
        parity = _compare_image(SimpleNamespace(**expected), SimpleNamespace(**actual), score_threshold)
        box, score, count = max(box, parity.box), max(score, parity.score), count + parity.detections
    if count == 0:
        raise InputError(
            "the network finds nothing in the comparison images, so the exported file cannot be verified and was not"
            " kept; give pictures of its objects with --images FOLDER, or lower --model.postprocess.score_threshold"
        )
    return DetectionParity(box, score, count)


def _compare_image(expected: Any, actual: Any, threshold: float) -> DetectionParity:
    """Pair the detections of one image off, best first; both have the fields of `PaddedDetections`, as numpy arrays."""
    box, score, count = 0.0, 0.0, 0
    kept = expected.scores[: int(expected.counts)]
    floor = kept.min(initial=1.0 if len(kept) else threshold) + SCORE_TOLERANCE
    free = np.arange(len(actual.scores)) < int(actual.counts)  # what has not been found to be a counterpart yet
    for i in np.flatnonzero(kept > floor):
        boxes = np.abs(actual.boxes - expected.boxes[i]).max(axis=1)
        scores = np.abs(actual.scores - expected.scores[i])
        same_label = free & (actual.labels == expected.labels[i])
        same_box, same_score = free & (boxes <= BOX_TOLERANCE), free & (scores <= SCORE_TOLERANCE)
        same = np.flatnonzero(same_label & same_box & same_score)
        if not len(same):
            name = "labels" if (same_box & same_score).any() else "scores" if (same_label & same_box).any() else "boxes"
            raise _difference(name, expected, int(i), "of the checkpoint has no counterpart in the file")
        best = same[np.argmin(boxes[same])]
        free[best] = False
        box, score, count = max(box, float(boxes[best])), max(score, float(scores[best])), count + 1
    # A counterpart of what lies at the floor may lie as far above it.
    for i in np.flatnonzero(free & (actual.scores > floor + SCORE_TOLERANCE)):
        raise _difference("counts", actual, int(i), "of the file has no counterpart in the checkpoint")
    return DetectionParity(box, score, count)


def _difference(name: str, detections: Any, index: int, problem: str) -> InputError:
    found = f"a detection of class {detections.labels[index]} with score {detections.scores[index]:.3f}"
    return difference(name, f"{found} {problem}")
