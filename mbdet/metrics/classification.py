"""Top-1 and top-5 accuracy, over all images and by class."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mbdet.errors import InputError
from mbdet.runtime.types import Classification


@dataclass(frozen=True)
class ClassAccuracy:
    """Accuracy over the images of one class; NaN where there is none."""

    top1: float
    top5: float
    images: int


@dataclass(frozen=True)
class ClassificationMetrics:
    """Parts of the images whose class is the likeliest, or among the five likeliest."""

    top1: float
    top5: float
    per_class: dict[str, ClassAccuracy]  # by class name, in the order of the labels

    headline: ClassVar[tuple[str, ...]] = ("top1", "top5")  # what a training logs

    def to_json(self) -> dict[str, Any]:
        """Return the figures under their names and `per_class`, ready for `json.dump`, NaN as None."""
        per_class = {name: _nan_to_none(asdict(values)) for name, values in self.per_class.items()}
        return {**_nan_to_none({"top1": self.top1, "top5": self.top5}), "per_class": per_class}


class ClassificationEvaluator:
    """Collects the classes found in each image and scores them over the images they were found in.

    Args:
        files: Name of each of the N images, for `results`; an image's id is its index.
        labels: (N,) true classes.
        class_names: The K names, in the order of the labels.
    """

    collected: dict[int, Classification]  # what has been collected, by image; clear it to evaluate again
    listed: int  # how many images the split has, whether or not they can be read

    def __init__(self, files: Sequence[str], labels: NDArray[np.int64], class_names: Sequence[str]) -> None:
        self._files, self._labels, self._class_names = files, labels, class_names
        self.listed = len(labels)
        self.collected = {}

    def update(self, image_id: int, found: Classification) -> None:
        """Take the classes of one image, in place of any taken for it before.

        A distributed sampler pads its last batch with images seen already; keyed by image, they count once.

        Args:
            image_id: Index of the image.
            found: Its likeliest classes, best first: five, or all if there are fewer.

        Raises:
            InputError: If there is no such image, or a label has no name.
        """
        if not 0 <= image_id < len(self._labels):
            raise InputError(f"no image has the number {image_id}; the split has {len(self._labels)}")
        if found.labels.size and not 0 <= found.labels.min() <= found.labels.max() < len(self._class_names):
            raise InputError(
                f"{self._files[image_id]}: was given labels from {found.labels.min()} to {found.labels.max()}, but"
                f" there are {len(self._class_names)} classes; evaluate a model of as many"
            )
        self.collected[image_id] = found

    def results(self) -> list[Mapping[str, Any]]:
        """Return for each image its file, its class, and the classes found with their scores, by ascending index."""
        names = self._class_names
        return [
            {
                "file": self._files[image_id],
                "name": names[self._labels[image_id]],
                "found": [
                    {"name": names[label], "score": round(score, 6)}
                    for label, score in zip(found.labels.tolist(), found.scores.tolist(), strict=True)
                ],
            }
            for image_id, found in sorted(self.collected.items())
        ]

    def records(self) -> dict[str, list[Mapping[str, Any]]]:
        """See `Evaluator.records`."""
        return {"predictions": self.results()}

    def compute(self) -> ClassificationMetrics:
        """Score what was collected, in whatever order it came."""
        truth = self._labels[sorted(self.collected)]
        hits = np.array(
            [
                (self._labels[image_id] in found.labels[:1], self._labels[image_id] in found.labels[:5])
                for image_id, found in sorted(self.collected.items())
            ],
            dtype=np.float64,
        ).reshape(-1, 2)
        per_class = {
            name: ClassAccuracy(*_mean(hits[truth == label]), images=int((truth == label).sum()))
            for label, name in enumerate(self._class_names)
        }
        return ClassificationMetrics(*_mean(hits), per_class=per_class)


def _mean(hits: NDArray[np.float64]) -> tuple[float, float]:
    """Average (N, 2) hits of top-1 and top-5."""
    if not len(hits):
        return math.nan, math.nan
    top1, top5 = hits.mean(axis=0).tolist()
    return top1, top5


def _nan_to_none(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in values.items()}
