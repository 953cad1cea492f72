"""Average precision of the objects and mean IoU of the pixels, in one evaluation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from mbdet.metrics.base import Evaluator
from mbdet.metrics.coco import CocoEvaluator, CocoMetrics
from mbdet.metrics.segmentation import Confusion, SegmentationEvaluator, SegmentationMetrics
from mbdet.runtime.types import Detections


class Evidence(NamedTuple):
    """What was found in one image, as far as there is ground truth for it."""

    detections: Detections | None  # where the image has boxes
    confusion: Confusion | None  # where it has a mask


@dataclass(frozen=True)
class MultiTaskMetrics:
    """The figures of both heads, NaN where one is undefined."""

    detection: CocoMetrics
    segmentation: SegmentationMetrics

    headline: ClassVar[tuple[str, ...]] = ("AP_mIoU", "AP", "AP50", "AP75", "mIoU", "pixel_accuracy")

    @property
    def AP_mIoU(self) -> float:  # noqa: N802 -- a figure's own name
        """The mean of AP and mIoU: one figure to tell by which checkpoint is the best."""
        return (self.AP + self.mIoU) / 2

    @property
    def AP(self) -> float:  # noqa: N802 -- a figure's own name
        """See `CocoMetrics`, as for the two that follow."""
        return self.detection.AP

    @property
    def AP50(self) -> float:  # noqa: N802 -- a figure's own name
        """At IoU 0.50."""
        return self.detection.AP50

    @property
    def AP75(self) -> float:  # noqa: N802 -- a figure's own name
        """At IoU 0.75."""
        return self.detection.AP75

    @property
    def mIoU(self) -> float:  # noqa: N802 -- a figure's own name
        """See `SegmentationMetrics`, as for the one that follows."""
        return self.segmentation.mIoU

    @property
    def pixel_accuracy(self) -> float:
        """Part of the pixels whose class is right."""
        return self.segmentation.pixel_accuracy

    def to_json(self) -> dict[str, Any]:
        """Return the figures under their names and `per_class`, ready for `json.dump`, NaN as None.

        A class has the figures of both heads if it goes by the same name in both, else None for the other's.
        """
        parts = self.detection.to_json(), self.segmentation.to_json()
        classes: list[Mapping[str, Any]] = [part.pop("per_class") for part in parts]
        figures = {name: None for per_class in classes for values in per_class.values() for name in values}
        names = {name: None for per_class in classes for name in per_class}
        per_class = {
            name: figures | {key: value for part in classes for key, value in part.get(name, {}).items()}
            for name in names
        }
        mean = None if self.AP_mIoU != self.AP_mIoU else self.AP_mIoU
        return {"AP_mIoU": mean, **parts[0], **parts[1], "per_class": per_class}


class MultiTaskEvaluator:
    """Collects objects and confusion matrices, of the same images or of two sets, and scores each.

    Args:
        detection: Scores the objects.
        segmentation: Scores the pixels.
        listed: How many images the ground truth has.
    """

    collected: dict[tuple[str, int], Any]  # by head and by image; clear it to evaluate again

    def __init__(self, detection: CocoEvaluator, segmentation: SegmentationEvaluator, listed: int) -> None:
        self._detection, self._segmentation = detection, segmentation
        self._parts: dict[str, Evaluator[Any]] = {"detections": detection, "confusion": segmentation}
        self.listed = listed
        self.collected = {}

    def update(self, image_id: int, found: Evidence) -> None:
        """Take what was found in one image, in place of any taken for it before.

        Args:
            image_id: The image; in two sets two images may have the same id.
            found: For both heads or for one.

        Raises:
            InputError: As the evaluators of the heads.
        """
        for name, evidence in found._asdict().items():
            if evidence is not None:
                self._parts[name].update(image_id, evidence)
                self.collected[name, image_id] = evidence

    def records(self) -> dict[str, Sequence[Mapping[str, Any]]]:
        """See `Evaluator.records`; those of both heads."""
        self._hand_out()
        return {name: records for part in self._parts.values() for name, records in part.records().items()}

    def compute(self) -> MultiTaskMetrics:
        """Score what was collected, in whatever order it came."""
        self._hand_out()
        return MultiTaskMetrics(self._detection.compute(), self._segmentation.compute())

    def _hand_out(self) -> None:
        """Give each head what was collected for it, by this process or by others."""
        for name, part in self._parts.items():
            part.collected = {image_id: found for (of, image_id), found in self.collected.items() if of == name}
