"""Mean IoU and pixel accuracy, from one confusion matrix over the whole set."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mbdet.errors import InputError
from mbdet.runtime.types import IGNORED

Confusion = NDArray[np.int64]  # (K, K) pixels by true class (rows) and predicted class (columns)


@dataclass(frozen=True)
class ClassIoU:
    """IoU of one class; NaN where neither the ground truth nor a prediction has it."""

    IoU: float
    pixels: int  # of the ground truth


@dataclass(frozen=True)
class SegmentationMetrics:
    """Figures over all pixels of all images, ignored ones left out; NaN where there is none."""

    mIoU: float  # noqa: N815  # mean over the classes that occur in the ground truth or in a prediction
    pixel_accuracy: float
    fwIoU: float  # noqa: N815  # mean weighted by the classes' pixels of the ground truth
    per_class: dict[str, ClassIoU]  # by class name, in the order of the labels

    headline: ClassVar[tuple[str, ...]] = ("mIoU", "pixel_accuracy")  # what a training logs

    def to_json(self) -> dict[str, Any]:
        """Return the figures under their names and `per_class`, ready for `json.dump`, NaN as None."""
        figures = {"mIoU": self.mIoU, "pixel_accuracy": self.pixel_accuracy, "fwIoU": self.fwIoU}
        per_class = {name: _nan_to_none(asdict(values)) for name, values in self.per_class.items()}
        return {**_nan_to_none(figures), "per_class": per_class}


class SegmentationEvaluator:
    """Collects one confusion matrix per image and scores their sum, as Pascal VOC does.

    Args:
        files: Name of each image by its id, for `results`.
        class_names: The K names, in the order of the labels.
    """

    collected: dict[int, Confusion]  # what has been collected, by image; clear it to evaluate again
    listed: int  # how many images the split has, whether or not they can be read

    def __init__(self, files: Mapping[int, str], class_names: Sequence[str]) -> None:
        self._files, self._class_names = files, class_names
        self.listed = len(files)
        self.collected = {}

    def update(self, image_id: int, found: Confusion) -> None:
        """Take the confusion matrix of one image, in place of any taken for it before.

        A distributed sampler pads its last batch with images seen already; keyed by image, they count once.

        Args:
            image_id: The image.
            found: (K, K), as `confusion_matrix` returns it, at the resolution of the original image.

        Raises:
            InputError: If there is no such image, or the matrix is of another number of classes.
        """
        if image_id not in self._files:
            raise InputError(f"no image has the number {image_id} among the {len(self._files)} of the split")
        if found.shape != (len(self._class_names),) * 2:
            raise InputError(
                f"{self._files[image_id]}: was given a confusion matrix of shape {found.shape}, but there are"
                f" {len(self._class_names)} classes; evaluate a model of as many"
            )
        self.collected[image_id] = found

    def results(self) -> list[Mapping[str, Any]]:
        """Return for each image its file, its figures and the IoU of the classes in it, by ascending id."""
        records: list[Mapping[str, Any]] = []
        for image_id, confusion in sorted(self.collected.items()):
            metrics = score(confusion, self._class_names)
            found = {name: round(of.IoU, 6) for name, of in metrics.per_class.items() if not math.isnan(of.IoU)}
            figures = _nan_to_none({"mIoU": metrics.mIoU, "pixel_accuracy": metrics.pixel_accuracy})
            records.append({"image_id": image_id, "file": self._files[image_id], **figures, "IoU": found})
        return records

    def records(self) -> dict[str, list[Mapping[str, Any]]]:
        """See `Evaluator.records`."""
        return {"images": self.results()}

    def compute(self) -> SegmentationMetrics:
        """Score what was collected, in whatever order it came."""
        size = len(self._class_names)
        return score(sum(self.collected.values(), np.zeros((size, size), dtype=np.int64)), self._class_names)


def confusion_matrix(truth: NDArray[np.uint8], predicted: NDArray[Any], num_classes: int) -> Confusion:
    """Count the pixels of one image by true and by predicted class.

    Args:
        truth: (H, W) 0..K-1, or 255 where a pixel does not count.
        predicted: (H, W) 0..K-1, any integer type.
        num_classes: K.

    Returns:
        (K, K): row t, column p holds the pixels of class t that were taken for p.

    Raises:
        InputError: If the two differ in size, or hold a class that is not below K.
    """
    if truth.shape != predicted.shape:
        raise InputError(
            f"a prediction of {predicted.shape} pixels (height, width) was given for a mask of {truth.shape}; resize it"
            " to the original image"
        )
    counts = truth != IGNORED
    rows, columns = truth[counts].astype(np.int64), predicted[counts].astype(np.int64)
    for what, values in (("mask", rows), ("prediction", columns)):
        if values.size and not 0 <= values.min() <= values.max() < num_classes:
            raise InputError(
                f"a {what} has classes from {values.min()} to {values.max()}, but there are {num_classes}; evaluate a"
                " model and data of the same classes"
            )
    return np.bincount(rows * num_classes + columns, minlength=num_classes**2).reshape(num_classes, num_classes)


def score(confusion: Confusion, class_names: Sequence[str]) -> SegmentationMetrics:
    """Compute the figures of a confusion matrix.

    A class that was predicted but is not there has IoU 0; one that is neither is left out of the means.

    Args:
        confusion: (K, K).
        class_names: The K names.

    Returns:
        The figures.
    """
    hits, pixels = confusion.diagonal().astype(np.float64), confusion.sum(axis=1)
    union = pixels + confusion.sum(axis=0) - hits
    present = union > 0
    iou = np.divide(hits, union, out=np.full(len(hits), math.nan), where=present)
    total = int(pixels.sum())
    return SegmentationMetrics(
        mIoU=float(iou[present].mean()) if present.any() else math.nan,
        pixel_accuracy=float(hits.sum()) / total if total else math.nan,
        fwIoU=float((iou[present] * pixels[present]).sum()) / total if total else math.nan,
        per_class={
            name: ClassIoU(value, count)
            for name, value, count in zip(class_names, iou.tolist(), pixels.tolist(), strict=True)
        },
    )


def _nan_to_none(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in values.items()}
