import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from mbdet.errors import InputError
from mbdet.metrics.coco import CocoEvaluator
from mbdet.metrics.multitask import Evidence, MultiTaskEvaluator
from mbdet.metrics.segmentation import Confusion, SegmentationEvaluator
from mbdet.report.tables import class_table
from mbdet.runtime.types import Detections

NAMES = ("sky", "dog", "hill")
HALF_RIGHT: Confusion = np.array([[50, 50, 0], [0, 100, 0], [0, 0, 0]])
ALL_RIGHT: Confusion = np.diag([100, 100, 0])


def dogs(*boxes: tuple[int, int, int, int]) -> Detections:
    number = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.linspace(0.9, 0.5, number, dtype=np.float32),
        np.zeros(number, int),
    )


@pytest.fixture
def evaluator() -> MultiTaskEvaluator:
    truth = {
        "images": [{"id": 1}, {"id": 2}],
        "categories": [{"id": 7, "name": "dog"}, {"id": 9, "name": "cat"}],
        "annotations": [
            {"image_id": number, "category_id": 7, "bbox": [10, 10, 40, 40], "area": 1600, "iscrowd": 0}
            for number in (1, 2)
        ],
    }
    masks = SegmentationEvaluator({1: "a.png", 2: "b.png"}, NAMES)
    return MultiTaskEvaluator(CocoEvaluator(Path("truth.json"), document=truth), masks, 2)


def test_both_figures_and_their_mean(evaluator: MultiTaskEvaluator) -> None:
    evaluator.update(1, Evidence(dogs((10, 10, 50, 50)), HALF_RIGHT))
    evaluator.update(2, Evidence(dogs((60, 60, 90, 90)), ALL_RIGHT))
    metrics = evaluator.compute()
    iou = {"sky": 150 / 200, "dog": 200 / 250}
    assert metrics.mIoU == pytest.approx(np.mean(list(iou.values())))
    assert 0.4 < metrics.AP < 0.6
    assert metrics.AP_mIoU == (metrics.AP + metrics.mIoU) / 2
    content = json.loads(json.dumps(metrics.to_json()))
    assert list(content)[:3] == ["AP_mIoU", "AP", "AP50"]
    assert all(content[name] == pytest.approx(getattr(metrics, name)) for name in metrics.headline)
    dog = content["per_class"]["dog"]
    assert (dog["AP"], dog["objects"], dog["pixels"]) == (metrics.AP, 2, 200)
    assert dog["IoU"] == pytest.approx(iou["dog"])
    # What one head alone knows, and what has no ground truth.
    assert content["per_class"]["sky"] == {
        **{"AP": None, "AP50": None, "AR100": None, "objects": None},
        **{"IoU": pytest.approx(iou["sky"]), "pixels": 200},
    }
    assert content["per_class"]["cat"]["pixels"] is None
    assert content["per_class"]["hill"]["IoU"] is None
    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        console.print(class_table(metrics, "name"))
    rows = {line.split()[0]: line.split()[1:] for line in capture.get().splitlines() if line.strip()}
    assert rows["class"] == ["AP", "AP50", "AR100", "IoU", "objects", "pixels"]
    assert rows["sky"] == ["-", "-", "-", "0.750", "-", "200"]
    assert rows["cat"] == ["-", "-", "-", "-", "0", "-"]


def test_two_sets_may_number_their_images_alike(evaluator: MultiTaskEvaluator) -> None:
    evaluator.update(1, Evidence(dogs((10, 10, 50, 50)), None))
    evaluator.update(1, Evidence(None, HALF_RIGHT))
    evaluator.update(2, Evidence(None, HALF_RIGHT))
    metrics = evaluator.compute()
    assert abs(metrics.AP - 1) < 1e-9
    assert metrics.segmentation.per_class["sky"].pixels == 200
    records = evaluator.records()
    assert {name: len(records[name]) for name in records} == {"detections": 1, "images": 2}


def test_processes_unite_what_they_collected(evaluator: MultiTaskEvaluator) -> None:
    other = pickle.loads(pickle.dumps(evaluator))
    evaluator.update(1, Evidence(dogs((10, 10, 50, 50)), HALF_RIGHT))
    other.update(2, Evidence(dogs((10, 10, 50, 50)), ALL_RIGHT))
    other.update(1, Evidence(dogs((10, 10, 50, 50)), HALF_RIGHT))  # seen by both
    evaluator.collected.update(pickle.loads(pickle.dumps(other.collected)))
    assert evaluator.compute().to_json() == other.compute().to_json()
    assert evaluator.compute().segmentation.per_class["dog"].pixels == 200
    evaluator.collected.clear()
    nothing = evaluator.compute()
    assert math.isnan(nothing.AP_mIoU)
    assert nothing.to_json()["AP_mIoU"] is None


def test_an_unknown_image_is_refused_at_once(evaluator: MultiTaskEvaluator) -> None:
    with pytest.raises(InputError, match="no image has the id 5"):
        evaluator.update(5, Evidence(dogs(), None))
    with pytest.raises(InputError, match="no image has the number 5"):
        evaluator.update(5, Evidence(None, HALF_RIGHT))
