"""How the objects that a file finds are compared with those of the network."""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mbdet.errors import InputError
from mbdet.export.base import SCORE_TOLERANCE, DifferenceError, Pair, Precision

Matches = NDArray[np.bool_]
# Largest difference between file and network that rounding explains, in pixels.
BOX_TOLERANCE = 0.05
# In fewer bits: what scores less is not compared, and what share of the rest must have a counterpart of its own, which
# is an object of the same class with this IoU and a score that differs by at most so much.
CONFIDENT, SAME_IOU = 0.3, 0.5
# Files of Google's SSDLite on MobileNetV2 reach 1.00 in fp16, and in int8 0.98 to 0.99, on pictures of COCO.
AGREEING = {"fp16": 0.95, "int8": 0.8}
SAME_SCORE = {"fp16": 0.05, "int8": 0.2}


class DetectionParity(NamedTuple):
    """How far a file's detections are from the network's."""

    box: float  # pixels of the network input
    score: float
    detections: int  # how many were compared

    @property
    def share(self) -> float:
        """Of the detections, those that agree: the first that does not is an error."""
        return 1.0

    def __str__(self) -> str:
        return f"{self.detections} detections (boxes to {self.box:.2g} px, scores to {self.score:.2g})"


class Agreement(NamedTuple):
    """How much of what the network finds a file with fewer bits finds too, and the other way round."""

    same: int  # confident detections of either with a counterpart in the other
    detections: int  # of either
    iou: float  # mean with the counterparts
    score: float  # mean difference to the counterparts

    @property
    def share(self) -> float:
        """Of the detections, those that agree."""
        return self.same / self.detections

    def __str__(self) -> str:
        return (
            f"{self.share:.1%} of {self.detections} detections that score {CONFIDENT} or more (mean IoU {self.iou:.3f},"
            f" mean difference of scores {self.score:.2g})"
        )


def compare_objects(pairs: Iterable[Pair], score_threshold: float, precision: Precision) -> DetectionParity | Agreement:
    """Compare the detections of a file with those of the network as closely as the file's precision allows.

    Args:
        pairs: Of all images.
        score_threshold: Of the decoding.
        precision: Of the file.

    Raises:
        InputError: At the first output that differs, or if the network finds nothing in any image.
    """
    if precision == "fp32":
        return compare_detections(pairs, score_threshold)
    return agreement(pairs, precision)


def agreement(pairs: Iterable[Pair], precision: Precision) -> Agreement:
    """Count the confident detections of network and file that the other has too.

    Args:
        pairs: Of all images.
        precision: Of the file, less than single.

    Raises:
        InputError: If too few agree, with the first that has no counterpart; or if there is no confident one.
    """
    ious: list[float] = []
    differences: list[float] = []
    lonely: list[DifferenceError] = []
    for pair in pairs:
        expected, actual = SimpleNamespace(**pair.expected), SimpleNamespace(**pair.actual)
        likeness = Likeness.between(expected, actual, SAME_SCORE[precision])
        partners = likeness.pair_off()
        sides = (
            (expected, likeness, partners, "checkpoint", "file"),
            (actual, likeness.turned(), {j: i for i, j in partners.items()}, "file", "checkpoint"),
        )
        for own, likeness, counterparts, name, other in sides:
            free = ~np.isin(np.arange(likeness.ious.shape[1]), [*counterparts.values()])
            for index in np.flatnonzero(own.scores[: int(own.counts)] >= CONFIDENT).tolist():
                if index in counterparts:
                    ious.append(float(likeness.ious[index, counterparts[index]]))
                    differences.append(float(likeness.scores[index, counterparts[index]]))
                else:
                    problem = f"of the {name} in comparison image {pair.image} has no counterpart in the {other}"
                    lonely.append(_error(likeness.differing(index, free), own, index, problem))
    count = len(ious) + len(lonely)
    if count == 0:
        raise InputError(
            f"the network finds nothing that scores {CONFIDENT} or more in the comparison images, so the exported file"
            " cannot be verified and was not kept; give pictures of its objects with --images FOLDER"
        )
    if len(ious) / count < AGREEING[precision]:
        first, rest = lonely[0], f"{len(lonely)} of {count} have none, more than {precision} explains"
        raise DifferenceError(first.output, f"{first.problem}, and {rest}")
    return Agreement(len(ious), count, float(np.mean(ious)), float(np.mean(differences)))


class Likeness(NamedTuple):
    """How N detections of one side resemble M of the other."""

    ious: NDArray[np.float64]  # (N, M)
    scores: NDArray[np.float64]  # (N, M) absolute differences
    same_label: NDArray[np.bool_]  # (N, M)
    same_score: float  # what difference of a score is small

    @classmethod
    def between(cls, own: Any, other: Any, same_score: float) -> "Likeness":
        """Compare two results of one image, whose fields are those of `PaddedDetections` as numpy arrays."""
        n, m = int(own.counts), int(other.counts)
        boxes, others = own.boxes[:n, None].astype(np.float64), other.boxes[None, :m].astype(np.float64)
        sides = np.minimum(boxes[..., 2:], others[..., 2:]) - np.maximum(boxes[..., :2], others[..., :2])
        shared = np.maximum(sides, 0).prod(axis=2)
        areas = [(side[..., 2:] - side[..., :2]).prod(axis=2) for side in (boxes, others)]
        ious = shared / np.maximum(areas[0] + areas[1] - shared, np.finfo(np.float64).tiny)
        scores = np.abs(own.scores[:n, None] - other.scores[None, :m])
        return cls(ious, scores, own.labels[:n, None] == other.labels[None, :m], same_score)

    def turned(self) -> "Likeness":
        """Return the same, seen from the other side."""
        return Likeness(self.ious.T, self.scores.T, self.same_label.T, self.same_score)

    def pair_off(self) -> dict[int, int]:
        """Return for each detection its counterpart, which is nobody else's: those that overlap most first."""
        close = self.same_label & (self.ious >= SAME_IOU) & (self.scores <= self.same_score)
        found, taken = dict[int, int](), set[int]()
        for i, j in sorted(np.argwhere(close).tolist(), key=lambda pair: -self.ious[*pair]):
            if i not in found and j not in taken:
                found[i] = j
                taken.add(j)
        return found

    def differing(self, index: int, free: NDArray[np.bool_]) -> str:
        """Name the output in which a detection differs from the most similar of those that have no counterpart."""
        same_box, same_score = self.ious[index] >= SAME_IOU, self.scores[index] <= self.same_score
        return _differing(free & self.same_label[index], free & same_box, free & same_score)


def _differing(same_label: Matches, same_box: Matches, same_score: Matches) -> str:
    """Name the output that alone keeps any of the other side's detections from being a counterpart."""
    if (same_box & same_score).any():
        return "labels"
    if (same_label & same_box).any():
        return "scores"
    return "boxes" if (same_label & same_score).any() else "counts"


def compare_detections(pairs: Iterable[Pair], score_threshold: float) -> DetectionParity:
    """Compare the detections of a file in single precision with those of the network.

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
            name = _differing(same_label, same_box, same_score)
            raise _error(name, expected, int(i), "of the checkpoint has no counterpart in the file")
        best = same[np.argmin(boxes[same])]
        free[best] = False
        box, score, count = max(box, float(boxes[best])), max(score, float(scores[best])), count + 1
    # A counterpart of what lies at the floor may lie as far above it.
    for i in np.flatnonzero(free & (actual.scores > floor + SCORE_TOLERANCE)):
        raise _error("counts", actual, int(i), "of the file has no counterpart in the checkpoint")
    return DetectionParity(box, score, count)


def _error(name: str, detections: Any, index: int, problem: str) -> DifferenceError:
    found = f"a detection of class {detections.labels[index]} with score {detections.scores[index]:.3f}"
    return DifferenceError(name, f"{found} {problem}")
