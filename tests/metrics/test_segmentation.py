"""Mean IoU: by hand, by brute force, against torchmetrics, and in parts."""

import json
import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchmetrics.classification import MulticlassJaccardIndex

from mbdet.errors import InputError
from mbdet.metrics.segmentation import SegmentationEvaluator, confusion_matrix

NAMES = ("background", "cat", "dog")


def evaluator(images: int = 9, names: tuple[str, ...] = NAMES) -> SegmentationEvaluator:
    return SegmentationEvaluator({number: f"{number}.jpg" for number in range(images)}, names)


def random_masks(seed: int, num_classes: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, num_classes, (13, 17), dtype=np.uint8)
    truth[rng.random(truth.shape) < 0.2] = 255
    return truth, np.where(rng.random(truth.shape) < 0.5, np.minimum(truth, 1), rng.integers(0, num_classes, (13, 17)))


def test_by_hand() -> None:
    truth = np.array([[0, 0, 0, 1], [1, 1, 255, 255]], np.uint8)
    predicted = np.array([[0, 0, 1, 1], [1, 0, 1, 2]])
    confusion = confusion_matrix(truth, predicted, 3)
    assert confusion.dtype == np.int64
    assert confusion.tolist() == [[2, 1, 0], [1, 2, 0], [0, 0, 0]]
    evaluation = evaluator()
    evaluation.update(4, confusion)
    metrics = evaluation.compute()
    assert metrics.per_class["background"].IoU == pytest.approx(2 / 4)
    assert metrics.per_class["cat"].IoU == pytest.approx(2 / 4)
    assert math.isnan(metrics.per_class["dog"].IoU)  # predicted only where nothing counts
    assert metrics.mIoU == pytest.approx(0.5)
    assert metrics.pixel_accuracy == pytest.approx(4 / 6)
    assert metrics.fwIoU == pytest.approx(0.5)
    assert metrics.to_json() == {
        "mIoU": pytest.approx(0.5),
        "pixel_accuracy": pytest.approx(4 / 6),
        "fwIoU": pytest.approx(0.5),
        "per_class": {
            "background": {"IoU": 0.5, "pixels": 3},
            "cat": {"IoU": 0.5, "pixels": 3},
            "dog": {"IoU": None, "pixels": 0},
        },
    }
    assert evaluation.results() == [
        {
            "image_id": 4,
            "file": "4.jpg",
            "mIoU": pytest.approx(0.5),
            "pixel_accuracy": pytest.approx(4 / 6),
            "IoU": {"background": 0.5, "cat": 0.5},
        }
    ]
    json.dumps(evaluation.results())


def test_predicted_but_absent_counts_as_zero() -> None:
    evaluation = evaluator()
    evaluation.update(0, confusion_matrix(np.array([[0, 0, 0, 0]], np.uint8), np.array([[0, 0, 0, 2]]), 3))
    metrics = evaluation.compute()
    assert metrics.per_class["dog"].IoU == 0
    assert metrics.mIoU == pytest.approx((3 / 4 + 0) / 2)
    assert metrics.fwIoU == pytest.approx(3 / 4)


@pytest.mark.parametrize("num_classes", [2, 7, 21])
def test_equals_brute_force_and_torchmetrics(num_classes: int) -> None:
    names = tuple(map(str, range(num_classes)))
    evaluation = evaluator(names=names)
    reference = MulticlassJaccardIndex(num_classes, average=None, ignore_index=255)
    mean = MulticlassJaccardIndex(num_classes, average="macro", ignore_index=255)
    pixels: list[tuple[int, int]] = []
    for image_id in range(3):
        truth, predicted = random_masks(image_id, num_classes)
        evaluation.update(image_id, confusion_matrix(truth, predicted, num_classes))
        for metric in (reference, mean):
            metric.update(torch.from_numpy(predicted), torch.from_numpy(truth.astype(np.int64)))
        pixels += [
            pair for pair in zip(truth.ravel().tolist(), predicted.ravel().tolist(), strict=True) if pair[0] < 255
        ]
    metrics = evaluation.compute()
    iou = [
        sum(t == p == k for t, p in pixels) / sum(k in (t, p) for t, p in pixels)  # every class occurs
        for k in range(num_classes)
    ]
    assert [values.IoU for values in metrics.per_class.values()] == pytest.approx(iou)
    assert iou == pytest.approx(reference.compute().tolist())
    assert metrics.mIoU == pytest.approx(float(mean.compute()))
    assert metrics.pixel_accuracy == pytest.approx(np.mean([t == p for t, p in pixels]))
    assert metrics.fwIoU == pytest.approx(np.mean([iou[t] for t, _ in pixels]))


def test_parts_merge_by_image() -> None:
    matrices = [confusion_matrix(*random_masks(image_id, 3), 3) for image_id in range(5)]
    whole, first, second = evaluator(), evaluator(), evaluator()
    for image_id, matrix in enumerate(matrices):
        whole.update(image_id, matrix)
        whole.update(image_id, matrix)  # seen twice
    for image_id in (0, 2, 4):
        first.update(image_id, matrices[image_id])
    for image_id in (1, 3, 4):  # as a distributed sampler pads
        second.update(image_id, matrices[image_id])
    first.collected.update(second.collected)
    assert first.compute() == whole.compute()
    assert first.results() == whole.results()
    whole.collected.clear()
    assert math.isnan(whole.compute().mIoU)


def test_no_pixel_counts() -> None:
    evaluation = evaluator()
    evaluation.update(0, confusion_matrix(np.full((2, 2), 255, np.uint8), np.zeros((2, 2), np.uint8), 3))
    figures = evaluation.compute().to_json()
    assert [figures[name] for name in ("mIoU", "pixel_accuracy", "fwIoU")] == [None] * 3


def test_what_does_not_fit_is_refused() -> None:
    truth = np.array([[0, 1]], np.uint8)
    with pytest.raises(InputError, match=r"prediction of .1, 3. pixels .* mask of .1, 2."):
        confusion_matrix(truth, np.zeros((1, 3), np.uint8), 3)
    with pytest.raises(InputError, match="prediction has classes from 0 to 3, but there are 3"):
        confusion_matrix(truth, np.array([[0, 3]]), 3)
    with pytest.raises(InputError, match="mask has classes from 0 to 1, but there are 1"):
        confusion_matrix(truth, np.zeros((1, 2), np.uint8), 1)
    with pytest.raises(InputError, match="no image has the number 9 among the 9"):
        evaluator().update(9, np.zeros((3, 3), np.int64))
    with pytest.raises(InputError, match=r"8.jpg: .* shape \(2, 2\), but there are 3 classes"):
        evaluator().update(8, np.zeros((2, 2), np.int64))
