"""COCO metrics against hand-computed numbers, pycocotools called directly, and broken files."""

import json
import math
import pickle
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mbdet.errors import InputError
from mbdet.metrics.coco import CocoEvaluator, CocoMetrics, evaluate_results, write_results
from mbdet.runtime.types import Detections

FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
NOTHING = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


def write_annotations(
    path: Path, image_ids: list[int], category_ids: list[int], annotations: list[dict[str, Any]]
) -> Path:
    document = {
        "images": [
            {"id": image_id, "file_name": f"{image_id}.jpg", "width": 640, "height": 480} for image_id in image_ids
        ],
        "categories": [{"id": category_id, "name": f"class {category_id}"} for category_id in category_ids],
        "annotations": annotations,
    }
    path.write_text(json.dumps(document))
    return path


def one(box: list[float], score: float, label: int = 0) -> Detections:
    return Detections(np.array([box], np.float32), np.array([score], np.float32), np.array([label]))


def figures(metrics: CocoMetrics) -> list[float]:
    return [getattr(metrics, name) for name in FIGURES]


@pytest.fixture
def three_objects(tmp_path: Path) -> Path:
    """Two images with three objects of one class: 20x20 and 200x200 in the first, 100x100 in the second."""
    annotations = [
        {"id": 1, "image_id": 10, "category_id": 7, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0},
        {"id": 2, "image_id": 10, "category_id": 7, "bbox": [100, 100, 200, 200], "area": 40000, "iscrowd": 0},
        {"id": 3, "image_id": 11, "category_id": 7, "bbox": [0, 0, 100, 100], "area": 10000, "iscrowd": 0},
    ]
    return write_annotations(tmp_path / "truth.json", [10, 11], [7], annotations)


def test_hand_computed(three_objects: Path) -> None:
    evaluator = CocoEvaluator(three_objects)
    evaluator.update(10, one([10, 10, 30, 30], 0.9))
    evaluator.update(
        11,
        Detections(
            np.array([[300, 300, 400, 400], [0, 0, 100, 62]], np.float32),
            np.array([0.8, 0.7], np.float32),
            np.array([0, 0]),
        ),
    )
    metrics = evaluator.compute()

    # Ranked: a hit on the small object, a miss, a hit of IoU 0.62, which counts at three thresholds of ten (0.5, 0.55,
    # 0.6). The second large object is never found. There: precision 1 up to recall 1/3, i.e. at 34 of the 101 recalls
    # 0, 0.01, ..., then 2/3 up to recall 2/3, i.e. at 33 more. At the other thresholds only the 34.
    at_50, at_75 = (34 + 33 * 2 / 3) / 101, 34 / 101
    mean = (3 * at_50 + 7 * at_75) / 10
    # Small: one object, found first; the miss has another size. Large: two objects; a miss, then at three thresholds a
    # hit, so precision 1/2 up to recall 1/2, i.e. at 51 recalls.
    large = 3 * (51 * 0.5 / 101) / 10
    # With one detection per image, the second image has only its miss.
    recall = (3 * 2 / 3 + 7 * 1 / 3) / 10
    nan = math.nan
    expected = [mean, at_50, at_75, 1, nan, large, 1 / 3, recall, recall, 1, nan, 3 * 0.5 / 10]
    assert figures(metrics) == pytest.approx(expected, nan_ok=True)
    assert astuple(metrics.per_class["class 7"]) == pytest.approx((mean, at_50, recall, 3))


def test_only_updated_images_are_evaluated(three_objects: Path, tmp_path: Path) -> None:
    evaluator = CocoEvaluator(three_objects)
    assert math.isnan(evaluator.compute().AP)
    evaluator.update(11, one([0, 0, 100, 100], 0.5))
    assert astuple(evaluator.compute().per_class["class 7"]) == pytest.approx((1, 1, 1, 1))
    evaluator.update(10, NOTHING)  # two objects that nothing was found for: precision 1 up to recall 1/3
    expected = pytest.approx((34 / 101, 34 / 101, 1 / 3, 3))
    assert astuple(evaluator.compute().per_class["class 7"]) == expected

    # A results file does not say which images were looked at: all count.
    write_results(tmp_path / "results.json", evaluator.results())
    scored = evaluate_results(three_objects, tmp_path / "results.json")
    assert astuple(scored.per_class["class 7"]) == expected


def test_results_are_written_in_the_data_sets_own_ids(three_objects: Path, tmp_path: Path) -> None:
    evaluator = CocoEvaluator(three_objects)
    evaluator.update(11, one([1, 2, 4, 8], 0.5))
    evaluator.update(10, one([0, 0, 1, 1], 0.25))
    path = tmp_path / "new" / "results.json"
    write_results(path, evaluator.results())
    assert json.loads(path.read_text()) == [
        {"image_id": 10, "category_id": 7, "bbox": [0, 0, 1, 1], "score": 0.25},
        {"image_id": 11, "category_id": 7, "bbox": [1, 2, 3, 6], "score": 0.5},
    ]
    assert list(path.parent.iterdir()) == [path]

    with pytest.raises(InputError, match="new: cannot be written"):
        write_results(path.parent, evaluator.results())  # a folder cannot be replaced by a file
    assert {file.name for file in tmp_path.iterdir()} == {"new", "truth.json"}


@pytest.fixture
def generated(tmp_path: Path) -> tuple[Path, dict[int, Detections]]:
    """Twelve images, two of them without objects and two without detections, with crowds, ties and duplicates."""
    rng = np.random.default_rng(3)
    category_ids = [2, 5, 9, 40]  # no object of the last
    image_ids = [901, 17, 18, 400, 23, 5, 77, 1000, 12, 13, 14, 15]
    annotations: list[dict[str, Any]] = []
    detections: dict[int, Detections] = {}
    for number, image_id in enumerate(image_ids):
        count = 0 if number < 2 else 6
        corners, sizes = rng.integers(0, 200, (count, 2)), rng.integers(8, 200, (count, 2))
        labels = rng.integers(0, 3, count)
        for corner, size, label in zip(corners.tolist(), sizes.tolist(), labels.tolist(), strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": category_ids[label],
                    "bbox": [*corner, *size],
                    "area": size[0] * size[1] * 0.7,
                    "iscrowd": int(rng.random() < 0.15),
                }
            )
        near = corners + rng.integers(-6, 7, (count, 2))
        boxes = np.concatenate([near, near + sizes], axis=1)
        noise = rng.integers(0, 100, (8, 2))
        boxes = np.concatenate([boxes, boxes[:3], np.concatenate([noise, noise + 60], axis=1)])  # three found twice
        found = np.concatenate([labels, labels[:3], rng.integers(0, 4, 8)])
        scores = np.sort(rng.integers(1, 10, len(boxes)) / 10)[::-1]
        if number in (1, 2):
            boxes, scores, found = boxes[:0], scores[:0], found[:0]
        detections[image_id] = Detections(boxes.astype(np.float32), scores.astype(np.float32), found)
    assert any(annotation["iscrowd"] for annotation in annotations)
    return write_annotations(tmp_path / "truth.json", image_ids, category_ids, annotations), detections


def test_equals_pycocotools(generated: tuple[Path, dict[int, Detections]], tmp_path: Path) -> None:
    path, detections = generated
    evaluator = CocoEvaluator(path)
    for image_id, found in detections.items():
        evaluator.update(image_id, found)
    metrics = evaluator.compute()

    records = [
        {
            "image_id": image_id,
            "category_id": [2, 5, 9, 40][label],
            "bbox": [float(x1), float(y1), float(x2 - x1), float(y2 - y1)],
            "score": float(score),
        }
        for image_id in sorted(detections)
        for (x1, y1, x2, y2), score, label in zip(*detections[image_id], strict=True)
    ]
    (tmp_path / "direct.json").write_text(json.dumps(records))
    truth = COCO(str(path))
    direct = COCOeval(truth, truth.loadRes(str(tmp_path / "direct.json")), "bbox")
    direct.evaluate()
    direct.accumulate()
    direct.summarize()

    assert 0.1 < metrics.AP < 0.9
    np.testing.assert_allclose(np.nan_to_num(figures(metrics), nan=-1), direct.stats, rtol=0, atol=1e-9)
    np.testing.assert_allclose(
        [values.AP for values in metrics.per_class.values()][:3],
        direct.eval["precision"][:, :, :3, 0, 2].mean(axis=(0, 1)),
        rtol=0,
        atol=1e-9,
    )
    assert sum(values.objects for values in metrics.per_class.values()) == len(truth.getAnnIds(iscrowd=False))
    # NaN is unequal to itself, so these compare as JSON.
    assert evaluate_results(path, tmp_path / "direct.json").to_json() == metrics.to_json()


def test_neither_order_nor_duplicates_count(generated: tuple[Path, dict[int, Detections]]) -> None:
    path, detections = generated
    sharded = [CocoEvaluator(path), CocoEvaluator(path)]
    items = list(detections.items())
    for rank, evaluator in enumerate(sharded):
        for image_id, found in (items + items[:3])[rank::2]:  # padded with images seen already
            evaluator.update(image_id, found)
    merged = CocoEvaluator(path)
    for part in pickle.loads(pickle.dumps([evaluator.collected for evaluator in sharded])):
        for image_id, found in part.items():
            merged.update(image_id, found)

    straight = CocoEvaluator(path)
    for image_id, found in reversed(items):
        straight.update(image_id, found)
    assert merged.results() == straight.results()
    assert merged.compute().to_json() == straight.compute().to_json() == straight.compute().to_json()


def test_json_has_null_for_undefined(generated: tuple[Path, dict[int, Detections]]) -> None:
    evaluator = CocoEvaluator(generated[0])
    evaluator.update(901, NOTHING)
    document = json.loads(json.dumps(evaluator.compute().to_json(), allow_nan=False))
    assert tuple(document) == (*FIGURES, "per_class") == tuple(field.name for field in fields(CocoMetrics))
    assert [document[name] for name in FIGURES] == [None] * 12
    assert document["per_class"]["class 40"] == {"AP": None, "AP50": None, "AR100": None, "objects": 0}


def test_custom_annotations_without_area_and_iscrowd_and_from_id_0(tmp_path: Path) -> None:
    annotations = [{"id": 0, "image_id": 0, "category_id": 0, "bbox": [0, 0, 40, 50]}]
    evaluator = CocoEvaluator(write_annotations(tmp_path / "truth.json", [0], [0], annotations))
    evaluator.update(0, one([0, 0, 40, 50], 0.5))
    metrics = evaluator.compute()
    assert (metrics.AP, metrics.APm) == pytest.approx((1, 1))
    assert math.isnan(metrics.APs)


def test_names_of_classes_are_told_apart(three_objects: Path) -> None:
    categories = [{"id": 7, "name": "dog"}, {"id": 1, "name": "dog"}, {"id": 9, "name": "cat"}, {"id": 3}]
    three_objects.write_text(json.dumps({**json.loads(three_objects.read_text()), "categories": categories}))
    assert list(CocoEvaluator(three_objects).compute().per_class) == ["dog (1)", "3", "dog (7)", "cat"]


def test_perfect_detections_of_real_data(real_data: Path) -> None:
    path = real_data / "coco" / "annotations" / "instances_val2017.json"
    truth = json.loads(path.read_text())
    labels = {category_id: label for label, category_id in enumerate(sorted(c["id"] for c in truth["categories"]))}
    evaluator = CocoEvaluator(path)
    for image in truth["images"]:
        own = [a for a in truth["annotations"] if a["image_id"] == image["id"] and not a["iscrowd"]]
        xywh = np.array([a["bbox"] for a in own], np.float32).reshape(-1, 4)
        boxes = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
        found = np.array([labels[a["category_id"]] for a in own], np.int64)
        evaluator.update(image["id"], Detections(boxes, np.full(len(own), 0.5, np.float32), found))
    metrics = evaluator.compute()
    assert (metrics.AP, metrics.APs, metrics.APm, metrics.APl, metrics.AR100) == pytest.approx((1, 1, 1, 1, 1))
    assert len(metrics.per_class) == 80


def test_silent(three_objects: Path, capfd: pytest.CaptureFixture[str]) -> None:
    CocoEvaluator(three_objects).compute()
    assert capfd.readouterr() == ("", "")


def test_empty_results_score_0(three_objects: Path, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("[]")
    metrics = evaluate_results(three_objects, tmp_path / "results.json")
    assert (metrics.AP, metrics.AP50, metrics.AR100, metrics.per_class["class 7"].AP) == (0, 0, 0, 0)


GOOD = {"image_id": 10, "category_id": 7, "bbox": [0, 0, 5, 5], "score": 0.5}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (json.dumps([GOOD])[:-4], "not valid JSON"),
        (json.dumps({"annotations": []}), "is no list"),
        (json.dumps([GOOD, 3]), "record 1 lacks a key"),
        (json.dumps([{**GOOD, "image_id": 99}]), "record 0 has image_id 99"),
        (json.dumps([{**GOOD, "image_id": [10]}]), "record 0 has image_id"),
        (json.dumps([GOOD, {**GOOD, "category_id": 0}]), "record 1 has category_id 0"),
        (json.dumps([{**GOOD, "score": math.nan}]), "record 0 has score nan"),
        (json.dumps([{**GOOD, "score": "0.5"}]), "record 0 has score '0.5'"),
        (json.dumps([{**GOOD, "bbox": [0, 0, 5]}]), "record 0 has bbox"),
        (json.dumps([{**GOOD, "bbox": [0, 0, -5, 5]}]), "record 0 has bbox"),
        (json.dumps([{**GOOD, "bbox": [0, math.inf, 5, 5]}]), "record 0 has bbox"),
        *((json.dumps([{k: v for k, v in GOOD.items() if k != key}]), "record 0 lacks a key") for key in GOOD),
    ],
)
def test_broken_results(three_objects: Path, tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "results.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        evaluate_results(three_objects, path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotations": None}, "has no list 'annotations'"),
        ({"images": [{"file_name": "a.jpg"}]}, r"images\[0\] lacks one of id"),
        ({"categories": ["dog"]}, r"categories\[0\] lacks one of id"),
        ({"annotations": [{"image_id": 10, "category_id": 7}]}, r"annotations\[0\] lacks one of .*bbox"),
        ({"annotations": [{"image_id": 10, "category_id": 7, "bbox": []}]}, r"annotations\[0\] has bbox \[\]"),
    ],
)
def test_broken_annotations(three_objects: Path, change: dict[str, Any], message: str) -> None:
    three_objects.write_text(json.dumps({**json.loads(three_objects.read_text()), **change}))
    with pytest.raises(InputError, match=message):
        CocoEvaluator(three_objects)


def test_unreadable_annotations(three_objects: Path, tmp_path: Path) -> None:
    three_objects.write_text(three_objects.read_text()[:100])
    with pytest.raises(InputError, match="not valid JSON"):
        CocoEvaluator(three_objects)
    with pytest.raises(InputError, match="cannot be read"):
        CocoEvaluator(tmp_path / "missing.json")


def test_detections_that_do_not_belong_to_the_annotations(three_objects: Path) -> None:
    evaluator = CocoEvaluator(three_objects)
    with pytest.raises(InputError, match="no image has the id 12"):
        evaluator.update(12, NOTHING)
    for label in (-1, 1):
        with pytest.raises(InputError, match="evaluate a model of 1 classes"):
            evaluator.update(10, one([0, 0, 1, 1], 0.5, label))


def test_bad_boxes_are_left_out_when_asked(tmp_path: Path) -> None:
    """As the reader leaves them out of the training: neither an error nor objects that nobody can find."""
    good = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10]}
    boxes: list[list[float]] = [[0, 0, 0, 5], [0, 0, -3, 5], [0, 0, float("nan"), 5], [1, 2], [30, 3, 5, 5]]
    bad = [{**good, "bbox": bbox} for bbox in boxes]  # the last one lies beside the image
    images = [{"id": 1, "width": 30, "height": 20}]
    path = tmp_path / "instances.json"
    path.write_text(json.dumps({"images": images, "categories": [{"id": 1, "name": "a"}], "annotations": [good, *bad]}))
    with pytest.raises(InputError):
        CocoEvaluator(path)
    evaluator = CocoEvaluator(path, skip_bad_boxes=True)
    found = Detections(np.array([[0, 0, 10, 10]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int64))
    evaluator.update(1, found)
    metrics = evaluator.compute()
    np.testing.assert_allclose(metrics.AP, 1.0)
    assert metrics.per_class["a"].objects == 1
