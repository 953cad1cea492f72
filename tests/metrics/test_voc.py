"""VOC's average precision against hand-computed numbers and a literal transcription of its rules."""

import json
import math
import pickle
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mbdet.metrics.coco import CocoEvaluator
from mbdet.metrics.voc import VocEvaluator, area_precision, eleven_point_precision
from mbdet.runtime.types import Detections

Box = tuple[float, float, float, float]
Truth = tuple[int, int, Box, int]  # image id, label, xyxy, difficult
Found = tuple[int, Box, float]  # label, xyxy, score

A, B, C = (0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10)
NOWHERE = (70, 70, 80, 80)
NAMES = ("cat", "dog")


def evaluator(truths: list[Truth], images: int = 3) -> VocEvaluator:
    annotations = [
        {"image_id": image, "category_id": label, "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": difficult}
        for image, label, (x1, y1, x2, y2), difficult in truths
    ]
    document: dict[str, Any] = {
        "images": [{"id": image} for image in range(images)],
        "categories": [{"id": label, "name": name} for label, name in enumerate(NAMES)],
        "annotations": annotations,
    }
    return VocEvaluator(Path("test.txt"), document=document)


def detections(found: list[Found]) -> Detections:
    return Detections(
        np.array([box for _, box, _ in found], np.float32).reshape(-1, 4),
        np.array([score for _, _, score in found], np.float32),
        np.array([label for label, _, _ in found], np.int64),
    )


def cat(truths: list[Truth], found: dict[int, list[Found]]) -> tuple[float, float]:
    """AP of the first class by both protocols."""
    evaluation = evaluator(truths)
    for image_id, items in found.items():
        evaluation.update(image_id, detections(items))
    values = evaluation.compute().per_class["cat"]
    return values.AP50_voc07, values.AP50_voc


# By hand


def test_hand_computed() -> None:
    # Ranked: a hit, the same object again, a hit, nothing. Two of three are found.
    truths = [(0, 0, A, 0), (0, 0, B, 0), (1, 0, C, 0)]
    found = {0: [(0, A, 0.9), (0, A, 0.8), (0, B, 0.7)], 1: [(0, NOWHERE, 0.6)]}
    # Precision 1 up to recall 1/3, i.e. at 0, 0.1, 0.2, 0.3, then 2/3 up to recall 2/3, i.e. at 0.4, 0.5, 0.6.
    assert cat(truths, found) == pytest.approx(((4 + 3 * 2 / 3) / 11, (1 + 2 / 3) / 3))


def test_the_precision_is_made_to_fall() -> None:
    # A miss, a hit, a hit: 0, 1/2, 2/3; what is reached later counts for the recalls before.
    hits = np.array([False, True, True])
    assert eleven_point_precision(hits, 2) == pytest.approx(2 / 3)
    assert area_precision(hits, 2) == pytest.approx(2 / 3)
    assert area_precision(hits, 4) == pytest.approx(2 / 3 * 2 / 4)
    assert eleven_point_precision(hits, 4) == pytest.approx(2 / 3 * 6 / 11)  # at 0, ..., 0.5


@pytest.mark.parametrize("tenths", range(1, 11))
def test_a_recall_of_some_tenths_reaches_that_point(tenths: int) -> None:
    assert eleven_point_precision(np.ones(tenths, np.bool_), 10) == pytest.approx((tenths + 1) / 11)


def test_difficult_objects_count_neither_way() -> None:
    truths = [(0, 0, A, 1), (0, 0, B, 0), (1, 0, C, 1)]
    # The difficult A is found twice, with the best scores; the difficult C is not found.
    assert cat(truths, {0: [(0, A, 0.9), (0, A, 0.8), (0, B, 0.7)], 1: []}) == pytest.approx((1, 1))
    assert cat(truths, {0: [(0, A, 0.9), (0, NOWHERE, 0.8), (0, B, 0.7)]}) == pytest.approx((0.5, 0.5))
    # Another class's difficult object is no excuse.
    assert cat([(0, 1, A, 1), (0, 0, B, 0)], {0: [(0, A, 0.9), (0, B, 0.7)]}) == pytest.approx((0.5, 0.5))


def test_a_detection_counts_for_the_object_it_overlaps_most() -> None:
    # Both objects overlap both detections by more than a half, and both detections overlap A most.
    near, both = (0, 2, 10, 12), (0, 0.5, 10, 10.5)
    truths = [(0, 0, A, 0), (0, 0, near, 0)]
    evaluation = evaluator(truths)
    evaluation.update(0, detections([(0, A, 0.9), (0, both, 0.8)]))
    metrics = evaluation.compute()
    assert metrics.AP50_voc == pytest.approx(0.5)
    np.testing.assert_allclose(metrics.AP50, 1)  # COCO gives the second to the other object


def test_half_an_overlap_is_enough_and_pixels_are_counted_with_both_corners() -> None:
    # Pixels 1 to 10 and 1 to 5 in VOC's numbers: 10 and 5 wide, not 9 and 4.
    assert cat([(0, 0, (0, 0, 10, 10), 0)], {0: [(0, (0, 0, 5, 10), 0.9)]}) == pytest.approx((1, 1))
    assert cat([(0, 0, (0, 0, 10, 10), 0)], {0: [(0, (0, 0, 4.99, 10), 0.9)]}) == (0, 0)


def test_equal_scores_keep_the_order_of_images_and_detections() -> None:
    truths = [(1, 0, A, 0)]
    for found, expected in [
        ({1: [(0, A, 0.5), (0, NOWHERE, 0.5)]}, 1),
        ({1: [(0, NOWHERE, 0.5), (0, A, 0.5)]}, 1 / 2),
        ({2: [(0, NOWHERE, 0.5)], 1: [(0, A, 0.5)]}, 1),
        ({1: [(0, A, 0.5)], 0: [(0, NOWHERE, 0.5)]}, 1 / 2),
    ]:
        assert cat(truths, found) == pytest.approx((expected, expected))


def test_a_class_without_objects_is_left_out_of_the_mean() -> None:
    evaluation = evaluator([(0, 0, A, 0), (1, 1, B, 1)])
    assert math.isnan(evaluation.compute().AP50_voc)
    evaluation.update(0, detections([(1, B, 0.9)]))
    evaluation.update(1, detections([(1, B, 0.8)]))
    metrics = evaluation.compute()
    assert (metrics.AP50_voc, metrics.AP50_voc07) == (0, 0)  # an object, but no detection
    assert math.isnan(metrics.per_class["dog"].AP50_voc)  # only a difficult object
    assert math.isnan(metrics.per_class["dog"].AP50_voc07)
    assert metrics.per_class["dog"].objects == 0


# One report


def test_json_holds_both_kinds_of_figures() -> None:
    evaluation = evaluator([(0, 0, A, 0)])
    evaluation.update(0, detections([(0, A, 0.9)]))
    metrics = evaluation.compute()
    content = json.loads(json.dumps(metrics.to_json(), allow_nan=False))
    assert list(content)[-3:] == ["AP50_voc07", "AP50_voc", "per_class"]
    assert len(content) == 15
    assert content["AP"] == pytest.approx(1)
    assert content["per_class"]["cat"] == pytest.approx(
        {"AP": 1, "AP50": 1, "AR100": 1, "objects": 1, "AP50_voc07": 1, "AP50_voc": 1}
    )
    assert set(content["per_class"]["dog"].values()) == {None, 0}
    assert all(isinstance(getattr(metrics, name), float) for name in metrics.headline)


# Against VOC's rules, word for word


def transcribed(truths: list[Truth], found: dict[int, list[Found]], label: int) -> tuple[Fraction, Fraction]:
    """Return the AP of one class by VOCevaldet.m's loop: whole pixels, both corners included, exact fractions."""
    objects = [(image, box, difficult) for image, own, box, difficult in truths if own == label]
    ranked = [(score, image, box) for image in sorted(found) for own, box, score in found[image] if own == label]
    ranked.sort(key=lambda item: -item[0])
    taken: set[int] = set()
    right = wrong = 0
    total = sum(not difficult for _, _, difficult in objects)
    points = [(Fraction(0), Fraction(0))]
    for _, image, (x1, y1, x2, y2) in ranked:
        best, index = Fraction(-1), -1
        for number, (own, (a1, b1, a2, b2), _) in enumerate(objects):
            # From edges to the first and last pixel inside, counted from 1.
            width = min(x2, a2) - max(x1 + 1, a1 + 1) + 1
            height = min(y2, b2) - max(y1 + 1, b1 + 1) + 1
            if own == image and width > 0 and height > 0:
                area = (x2 - (x1 + 1) + 1) * (y2 - (y1 + 1) + 1) + (a2 - (a1 + 1) + 1) * (b2 - (b1 + 1) + 1)
                overlap = Fraction(width * height, area - width * height)
                if overlap > best:
                    best, index = overlap, number
        if best >= Fraction(1, 2) and objects[index][2]:
            continue
        if best >= Fraction(1, 2) and index not in taken:
            taken.add(index)
            right += 1
        else:
            wrong += 1
        points.append((Fraction(right, total), Fraction(right, right + wrong)))
    steps = [Fraction(tenth, 10) for tenth in range(11)]
    eleven = sum((max((p for r, p in points if r >= step), default=Fraction(0)) for step in steps), Fraction(0)) / 11
    area = Fraction(0)
    for position in range(1, len(points)):
        best = max(p for _, p in points[position:])
        area += (points[position][0] - points[position - 1][0]) * best
    return eleven, area


def generate(seed: int) -> tuple[list[Truth], dict[int, list[Found]]]:
    """Sixteen crowded images of whole pixels, with difficult objects, duplicates, ties and misses."""
    rng = np.random.default_rng(seed)
    truths: list[Truth] = []
    found: dict[int, list[Found]] = {}
    for image in rng.permutation(16).tolist():
        found[image] = []
        for _ in range(rng.integers(0, 7)):
            x, y, w, h = *rng.integers(0, 40, 2).tolist(), *rng.integers(8, 40, 2).tolist()
            label = int(rng.integers(2))
            truths.append((image, label, (x, y, x + w, y + h), int(rng.random() < 0.2)))
            for _ in range(rng.integers(0, 3)):
                dx, dy, dw, dh = rng.integers(-4, 5, 4).tolist()
                own = label if rng.random() < 0.9 else 1 - label
                box = (x + dx, y + dy, x + dx + w + dw, y + dy + h + dh)
                found[image].append((own, box, float(rng.integers(1, 8)) / 8))
        found[image].sort(key=lambda item: -item[2])
    return truths, found


@pytest.mark.parametrize("seed", range(20))
def test_equals_the_rules_word_for_word(seed: int) -> None:
    truths, found = generate(seed)
    evaluation = evaluator(truths, images=16)
    for image, items in found.items():
        evaluation.update(image, detections(items))
    metrics = evaluation.compute()
    for label, name in enumerate(NAMES):
        values = metrics.per_class[name]
        assert 0.1 < values.AP50_voc < 1
        expected = pytest.approx([float(value) for value in transcribed(truths, found, label)], abs=1e-12)
        assert [values.AP50_voc07, values.AP50_voc] == expected
    both = [metrics.per_class[name] for name in NAMES]
    assert metrics.AP50_voc == pytest.approx(sum(values.AP50_voc for values in both) / 2)
    assert metrics.AP50_voc07 == pytest.approx(sum(values.AP50_voc07 for values in both) / 2)


def test_where_objects_lie_apart_the_area_is_nearly_pycocotools_ap50() -> None:
    rng = np.random.default_rng(1)
    evaluation = evaluator([(image, 0, box, 0) for image in range(200) for box in (A, B, C)], images=200)
    for image in range(200):
        found: list[Found] = [(0, box, rng.random()) for box in (A, B, C) if rng.random() < 0.7]
        found += [(0, NOWHERE, 0.7 * rng.random()) for _ in range(rng.integers(0, 3))]
        evaluation.update(image, detections(sorted(found, key=lambda item: -item[2])))
    metrics = evaluation.compute()
    assert 0.4 < metrics.AP50_voc < 0.8
    assert metrics.AP50_voc == pytest.approx(metrics.AP50, abs=0.01)


def test_two_evaluations_merge_into_one() -> None:
    truths, found = generate(5)
    parts = [evaluator(truths, images=16), evaluator(truths, images=16)]
    whole, merged = evaluator(truths, images=16), evaluator(truths, images=16)
    items = list(found.items())
    for image, own in items:
        whole.update(image, detections(own))
    for rank, part in enumerate(parts):
        for image, own in (items + items[:1])[rank::2]:  # padded with an image seen already
            part.update(image, detections(own))
        for image, own_detections in pickle.loads(pickle.dumps(part.collected)).items():
            merged.update(image, own_detections)
    assert merged.compute().to_json() == whole.compute().to_json()
    assert whole.compute().to_json()["AP50_voc"] > 0.1


def test_the_coco_figures_are_those_of_the_coco_evaluation(tmp_path: Path, shapes: Path) -> None:
    path = shapes / "annotations" / "instances_val.json"
    evaluations = CocoEvaluator(path), VocEvaluator(path)
    truth = json.loads(path.read_text())
    for image in truth["images"]:
        boxes = [a["bbox"] for a in truth["annotations"] if a["image_id"] == image["id"]]
        found: list[Found] = [(0, (x, y, x + w, y + h), 0.5) for x, y, w, h in boxes]
        for evaluation in evaluations:
            evaluation.update(image["id"], detections(found))
    coco, voc = (evaluation.compute().to_json() for evaluation in evaluations)
    assert {name: voc[name] for name in coco if name != "per_class"} == {
        name: value for name, value in coco.items() if name != "per_class"
    }
