"""Pascal VOC average precision, beside COCO's figures and over the same detections.

The rules are those of VOCdevkit's VOCevaldet.m at IoU 0.5. It counts pixels and includes both corners, so its boxes are
`xmax - xmin + 1` wide. Here boxes are xyxy pixels whose corners are edges, one less at the top left (see
`mbdet.data.voc_records`), and plain differences give the same widths, intersections and IoU.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mbdet.metrics.coco import ClassMetrics, CocoEvaluator, CocoMetrics
from mbdet.runtime.types import Detections

IOU_THRESHOLD = 0.5


@dataclass(frozen=True)
class VocClassMetrics(ClassMetrics):
    """COCO's and VOC's average precision of one class; NaN where the class has no object that is not difficult."""

    AP50_voc07: float  # the mean of the precision at 11 recalls, VOC2007's protocol
    AP50_voc: float  # the area below the precision, the protocol from VOC2010 on


@dataclass(frozen=True)
class VocMetrics(CocoMetrics):
    """COCO's twelve figures and VOC's two, as fractions; the latter are means over the classes that have objects."""

    per_class: Mapping[str, VocClassMetrics]
    AP50_voc07: float
    AP50_voc: float

    headline: ClassVar[tuple[str, ...]] = (*CocoMetrics.headline, "AP50_voc07", "AP50_voc")


class VocEvaluator(CocoEvaluator):
    """A COCO evaluation that gives VOC's figures too. See `CocoEvaluator`.

    What COCO calls a crowd (`iscrowd`) is difficult for VOC, and both ignore it: VOC every detection whose best match
    it is, COCO every detection without a match that lies in it by the part that the threshold asks for.
    """

    def compute(self) -> VocMetrics:
        """Score the collected detections over the images they were collected for, in whatever order they came."""
        metrics = super().compute()
        candidates = _match([(self._truth_of(image_id), found) for image_id, found in sorted(self.collected.items())])
        per_class = {}
        for label, (name, values) in enumerate(metrics.per_class.items()):
            of_class = candidates.labels == label
            hits, objects = candidates.hits[of_class], values.objects
            per_class[name] = VocClassMetrics(
                **asdict(values),
                AP50_voc07=eleven_point_precision(hits, objects),
                AP50_voc=area_precision(hits, objects),
            )
        figures = {field.name: getattr(metrics, field.name) for field in fields(metrics)}
        return VocMetrics(
            **{**figures, "per_class": per_class},
            AP50_voc07=_mean([values.AP50_voc07 for values in per_class.values()]),
            AP50_voc=_mean([values.AP50_voc for values in per_class.values()]),
        )

    def _truth_of(self, image_id: int) -> "_Truth":
        annotations = self._truth.imgToAnns.get(image_id, [])
        boxes = np.array([annotation["bbox"] for annotation in annotations], np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        return _Truth(
            boxes,
            np.searchsorted(self._category_ids, [annotation["category_id"] for annotation in annotations]),
            np.array([annotation["iscrowd"] for annotation in annotations], np.bool_),
        )


class _Truth(NamedTuple):
    """The objects of one image."""

    boxes: NDArray[np.float64]  # (M, 4) xyxy pixels
    labels: NDArray[np.int64]  # (M,) 0..K-1
    difficult: NDArray[np.bool_]  # (M,)


class _Candidates(NamedTuple):
    """The detections that count, of all images and classes, by descending score."""

    labels: NDArray[np.int64]  # (N,) 0..K-1
    hits: NDArray[np.bool_]  # (N,) whether it found an object that none before it had found


def eleven_point_precision(hits: NDArray[np.bool_], objects: int) -> float:
    """Average the best precision at recalls of 0, 0.1, ..., 1 and above (VOC2007's protocol).

    Whether a recall reaches these is decided in whole numbers, where VOCdevkit's steps of 0.1 may round either way.

    Args:
        hits: (N,) whether each detection of a class is right, by descending score.
        objects: How many there are to find.

    Returns:
        A fraction; NaN if there is nothing to find.
    """
    if not objects:
        return math.nan
    found, precision = _curve(hits)
    reached = 10 * found >= objects * np.arange(11)[:, None]  # (11, N)
    return float(np.where(reached, precision, 0).max(axis=1, initial=0).mean())


def area_precision(hits: NDArray[np.bool_], objects: int) -> float:
    """Sum the area below the precision, made to fall with the recall (the protocol from VOC2010 on).

    Args:
        hits: (N,) whether each detection of a class is right, by descending score.
        objects: How many there are to find.

    Returns:
        A fraction; NaN if there is nothing to find.
    """
    if not objects:
        return math.nan
    _, precision = _curve(hits)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(envelope[hits].sum() / objects)  # every hit is a step of 1 / objects


def _curve(hits: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Hits so far, and which part of the detections so far they are."""
    found = np.cumsum(hits, dtype=np.int64)
    return found, found / np.arange(1, len(hits) + 1)


def _match(images: list[tuple[_Truth, Detections]]) -> _Candidates:
    """Assign every detection to the object of its class that it overlaps most, and each object to the first of its own.

    A detection whose object is taken is wrong, even if it overlaps another one enough. Those of difficult objects are
    left out. Equal scores keep the order of the images and of their detections.
    """
    scores, labels, owners = [np.zeros(0, np.float32)], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    difficult = [False]  # of each object, numbered through all images from 1; 0 is none
    for truth, found in images:
        iou = np.where(found.labels[:, None] == truth.labels, _iou(found.boxes.astype(np.float64), truth.boxes), -1)
        overlapping = iou.max(axis=1, initial=-1) >= IOU_THRESHOLD
        best = iou.argmax(axis=1) if len(truth.labels) else np.zeros(len(found.labels), np.int64)
        owners.append(np.where(overlapping, len(difficult) + best, 0))
        scores.append(found.scores)
        labels.append(found.labels)
        difficult.extend(truth.difficult.tolist())
    order = np.argsort(-np.concatenate(scores), kind="stable")
    owner, label = np.concatenate(owners)[order], np.concatenate(labels)[order]
    counts = ~np.array(difficult)[owner]
    owner, label = owner[counts], label[counts]
    hits = np.zeros(len(owner), np.bool_)
    hits[np.unique(owner, return_index=True)[1]] = True
    return _Candidates(label, hits & (owner > 0))


def _iou(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU of boxes (N, 4) with others (M, 4), xyxy pixels. Returns (N, M)."""
    overlap = np.minimum(boxes[:, None, 2:], others[:, 2:]) - np.maximum(boxes[:, None, :2], others[:, :2])
    intersection = overlap.clip(0).prod(axis=2)
    areas, other_areas = ((corners[:, 2:] - corners[:, :2]).prod(axis=1) for corners in (boxes, others))
    return np.asarray(intersection / (areas[:, None] + other_areas - intersection).clip(1e-12))


def _mean(values: list[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else math.nan
