"""COCO average precision and recall. pycocotools is the evaluator; this module feeds it and names its numbers.

Ground truth and results are JSON files in COCO's format: boxes are xywh pixels of the original image, categories carry
the data set's own ids, which may be sparse. A label (0..K-1) is the position of a category among the ascending ids.
"""

import contextlib
import io
import json
import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, TypedDict

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mbdet.errors import InputError
from mbdet.runtime.boxes import Size, read_coco_box, read_coco_size
from mbdet.runtime.files import write_atomically
from mbdet.runtime.types import Detections


class CocoResult(TypedDict):
    """One detection as COCO's results format writes it."""

    image_id: int
    category_id: int  # the data set's own id, not the label
    bbox: list[float]  # xywh pixels of the original image
    score: float


@dataclass(frozen=True)
class ClassMetrics:
    """Average precision and recall of one class over all areas; NaN where the class has no object."""

    AP: float  # IoU 0.50:0.95
    AP50: float
    AR100: float  # IoU 0.50:0.95, at most 100 detections per image
    objects: int  # ground truth in the evaluated images, crowds not counted


@dataclass(frozen=True)
class CocoMetrics:
    """The twelve COCO figures in pycocotools' order, as fractions.

    Where a figure is undefined because there is no ground truth for it, pycocotools says -1; here it is NaN, and null
    in JSON, so that no mean or plot takes it for a number.
    """

    AP: float  # IoU 0.50:0.95, as all the following unless they say otherwise
    AP50: float
    AP75: float
    APs: float  # area below 32 ** 2
    APm: float  # area from 32 ** 2 to 96 ** 2
    APl: float  # area above 96 ** 2
    AR1: float  # at most 1 detection per image
    AR10: float
    AR100: float
    ARs: float
    ARm: float
    ARl: float
    per_class: Mapping[str, ClassMetrics]  # by category name, in the order of the labels

    headline: ClassVar[tuple[str, ...]] = ("AP", "AP50", "AP75")  # what a training logs

    def to_json(self) -> dict[str, Any]:
        """Return the figures under their names and `per_class`, ready for `json.dump`, NaN as None."""
        figures = asdict(self)
        per_class = {name: _nan_to_none(values) for name, values in figures.pop("per_class").items()}
        return {**_nan_to_none(figures), "per_class": per_class}


class CocoEvaluator:
    """Collects the detections of one evaluation and scores them over the images they were collected for.

    Several processes merge by gathering `collected`, which is plain and picklable, and giving every item of every
    process to one evaluator's `update`.

    Args:
        annotations: COCO instances file with the ground truth. Where annotations lack `area` or `iscrowd`, width times
            height and 0 are taken.
        skip_bad_boxes: Leave annotations without a proper box out, instead of raising or counting them as missed.
        document: The content of such a file, where the ground truth comes from elsewhere; `annotations` then only says
            in messages where.
        listed: How many images there should be, where the document holds only those that are there.

    Raises:
        InputError: If the file is missing, truncated or not in COCO's format.
    """

    collected: dict[int, Detections]  # what has been collected, by image id; clear it to evaluate again
    listed: int  # how many images the annotations have, whether or not they can be read

    def __init__(
        self,
        annotations: Path,
        skip_bad_boxes: bool = False,
        document: dict[str, Any] | None = None,
        listed: int | None = None,
    ) -> None:
        self._annotations = annotations
        document = _read_json(annotations) if document is None else document
        self._truth = _index_truth(annotations, document, skip_bad_boxes)
        self.listed = len(self._truth.imgs) if listed is None else listed
        self._category_ids: list[int] = sorted(self._truth.cats)
        self.collected = {}

    def update(self, image_id: int, detections: Detections) -> None:
        """Take the detections of one image, in place of any taken for it before.

        A distributed sampler pads its last batch with images seen already; keyed by image, they count once.

        Args:
            image_id: The data set's own id.
            detections: Boxes in xyxy pixels of the original image. None found still counts as evaluated.

        Raises:
            InputError: If the annotations do not know the image, or have fewer categories than the labels need.
        """
        if image_id not in self._truth.imgs:
            raise InputError(
                f"{self._annotations}: no image has the id {image_id}; evaluate on the images this file describes"
            )
        labels, categories = detections.labels, len(self._category_ids)
        if labels.size and not 0 <= labels.min() <= labels.max() < categories:
            raise InputError(
                f"{self._annotations}: has {categories} categories, but image {image_id} was given labels from "
                f"{labels.min()} to {labels.max()}; evaluate a model of {categories} classes"
            )
        self.collected[image_id] = detections

    def results(self) -> list[CocoResult]:
        """Return all detections in COCO's results format, by ascending image id and otherwise in the order given."""
        results: list[CocoResult] = []
        for image_id, (boxes, scores, labels) in sorted(self.collected.items()):
            xywh = boxes.astype(np.float64)
            xywh[:, 2:] -= xywh[:, :2]
            results += [
                {"image_id": image_id, "category_id": self._category_ids[label], "bbox": bbox, "score": score}
                for bbox, score, label in zip(xywh.tolist(), scores.tolist(), labels.tolist(), strict=True)
            ]
        return results

    def records(self) -> dict[str, list[CocoResult]]:
        """See `Evaluator.records`."""
        return {"detections": self.results()}

    def compute(self) -> CocoMetrics:
        """Score the collected detections over the images they were collected for, in whatever order they came."""
        return _evaluate(self._truth, self.results(), sorted(self.collected))


def evaluate_results(annotations: Path, results: Path) -> CocoMetrics:
    """Score a results file over all images of the annotations, which is COCO's protocol.

    Args:
        annotations: COCO instances file with the ground truth.
        results: JSON list of records with image_id, category_id, bbox (xywh pixels of the original image) and score.

    Raises:
        InputError: If a file is missing, truncated or not in its format, or if a record of the results names an
            unknown image or category or has no finite score or no proper box.
    """
    truth = _index_truth(annotations, _read_json(annotations))
    records = _read_json(results)
    if not isinstance(records, list):
        raise InputError(f"{results}: is no list; COCO results are a list of {{image_id, category_id, bbox, score}}")
    for index, record in enumerate(records):
        problem = _result_problem(record, truth, annotations)
        if problem:
            raise InputError(f"{results}: record {index} {problem}")
    return _evaluate(truth, records, sorted(truth.imgs))


def write_results(path: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Write results as a JSON list."""
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(results), encoding="utf-8")


def _evaluate(truth: COCO, results: Sequence[CocoResult], image_ids: Sequence[int]) -> CocoMetrics:
    """Run pycocotools with its default thresholds, areas and limits of detections."""
    found = COCO()
    # What COCO.loadRes makes of boxes, except that it fails on an empty list and adds a polygon to every box.
    found.dataset = {
        "images": truth.dataset["images"],
        "categories": truth.dataset["categories"],
        "annotations": [
            {**result, "id": number, "area": result["bbox"][2] * result["bbox"][3], "iscrowd": 0}
            for number, result in enumerate(results, start=1)
        ],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        found.createIndex()
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.params.imgIds = list(image_ids)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()

    objects = Counter(
        annotation["category_id"]
        for image_id in image_ids
        for annotation in truth.imgToAnns.get(image_id, [])
        if not annotation["iscrowd"]
    )
    # precision is (IoU, recall, class, area, limit) and recall (IoU, class, area, limit): all areas, 100 detections.
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    recall = evaluation.eval["recall"][:, :, 0, -1]
    per_class = {
        truth.cats[category_id]["name"]: ClassMetrics(
            AP=_mean(precision[:, :, index]),
            AP50=_mean(precision[0, :, index]),
            AR100=_mean(recall[:, index]),
            objects=objects[category_id],
        )
        for index, category_id in enumerate(sorted(truth.cats))
    }
    figures = np.where(evaluation.stats == -1, math.nan, evaluation.stats).tolist()
    names = [field.name for field in fields(CocoMetrics) if field.name != "per_class"]
    return CocoMetrics(**dict(zip(names, figures, strict=True)), per_class=per_class)


def _mean(values: NDArray[np.float64]) -> float:
    """Average what pycocotools defined; a class without an object is -1 throughout."""
    return math.nan if (values == -1).all() else float(values.mean())


def _nan_to_none(values: dict[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def _index_truth(path: Path, document: Any, skip_bad_boxes: bool = False) -> COCO:
    """Check the content of a COCO instances file and keep what the evaluation of boxes needs."""
    images = _records(path, document, "images", ("id",))
    categories = _records(path, document, "categories", ("id",))
    annotations = _records(path, document, "annotations", ("image_id", "category_id", "bbox"))
    if skip_bad_boxes:
        sizes = {image["id"]: read_coco_size(image) for image in images}
        annotations = [item for item in annotations if _is_usable(item["bbox"], sizes.get(item["image_id"]))]
    for index, annotation in enumerate(annotations):
        if not _is_four_numbers(annotation["bbox"]):
            raise InputError(
                f"{path}: annotations[{index}] has bbox {annotation['bbox']!r}; write [x, y, width, height] in pixels"
            )
    names = {category["id"]: str(category.get("name", category["id"])) for category in categories}
    uses = Counter(names.values())

    truth = COCO()
    truth.dataset = {
        "images": [{"id": image["id"]} for image in images],
        # Some exports name a class like its supercategory; the id keeps them apart.
        "categories": [
            {"id": category_id, "name": name if uses[name] == 1 else f"{name} ({category_id})"}
            for category_id, name in names.items()
        ],
        # Numbered anew: pycocotools takes an object with the id 0 for unmatched and loses all but one of equal ids.
        "annotations": [_truth_annotation(number, record) for number, record in enumerate(annotations, start=1)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
    return truth


def _truth_annotation(number: int, record: dict[str, Any]) -> dict[str, Any]:
    """Return what pycocotools reads of an annotation, with COCO's defaults for what a custom data set leaves out."""
    area, bbox = record.get("area"), record["bbox"]
    return {
        "id": number,
        "image_id": record["image_id"],
        "category_id": record["category_id"],
        "bbox": bbox,
        "area": area if _is_finite(area) else bbox[2] * bbox[3],
        "iscrowd": record.get("iscrowd") or 0,
    }


def _records(path: Path, document: Any, kind: str, keys: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return one list of an instances file after a look at the keys that its records need."""
    records = document.get(kind) if isinstance(document, dict) else None
    if not isinstance(records, list):
        raise InputError(f"{path}: has no list {kind!r}; give a COCO instances file, such as instances_val2017.json")
    for index, record in enumerate(records):
        if not isinstance(record, dict) or not record.keys() >= set(keys):
            raise InputError(f"{path}: {kind}[{index}] lacks one of {', '.join(keys)}; add it or remove the record")
    return records


def _result_problem(record: Any, truth: COCO, annotations: Path) -> str:
    """Return what is wrong with a record of a results file and how to cure it, or nothing."""
    if not isinstance(record, dict) or not record.keys() >= CocoResult.__required_keys__:
        return "lacks a key; write image_id, category_id, bbox and score for every detection"
    image_id, category_id, bbox, score = (record[key] for key in ("image_id", "category_id", "bbox", "score"))
    if not isinstance(image_id, Hashable) or image_id not in truth.imgs:
        return f"has image_id {image_id!r}, unknown to {annotations}; give the annotations the results were made for"
    if not isinstance(category_id, Hashable) or category_id not in truth.cats:
        return f"has category_id {category_id!r}, unknown to {annotations}; write the data set's own ids, not labels"
    if not _is_finite(score):
        return f"has score {score!r}; write a finite number"
    if not _is_four_numbers(bbox) or min(bbox[2:]) < 0:
        return f"has bbox {bbox!r}; write [x, y, width, height] in pixels of the original image"
    return ""


def _is_usable(bbox: object, size: Size | None) -> bool:
    """Tell whether the readers of data take a box too."""
    try:
        read_coco_box(bbox, size)
    except ValueError:
        return False
    return True


def _is_four_numbers(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_finite, value))


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except ValueError as error:
        raise InputError(f"{path}: is not valid JSON ({error}), perhaps cut short; fetch or write it again") from error
