"""Losses against torchvision's, against slow loops from their definitions, and at the edges."""

import math
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder, SSDMatcher
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou

from mbdet.ops import (
    AnchorConfig,
    FocalSSDLoss,
    SigmoidSSDLoss,
    SoftmaxSSDLoss,
    SSDLoss,
    encode_boxes,
    match_anchors,
    ssd_anchors,
)
from mbdet.ops.losses import keep_hard_negatives
from mbdet.types import DetectionTargets, DetectorOutput

ANCHORS = ssd_anchors([(4, 4), (2, 2), (1, 1)], (64, 64), AnchorConfig())
NUM_CLASSES = 5
LOSSES = [FocalSSDLoss(), SoftmaxSSDLoss(), SigmoidSSDLoss()]
each_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)

Batch = tuple[DetectorOutput, DetectionTargets]


@pytest.fixture
def make_batch(objects_of_their_own_anchor: Callable[..., Tensor]) -> Callable[..., Batch]:
    """Return a function that draws predictions and targets for images with so many objects each, or fewer."""

    def make(*numbers: int, seed: int = 0, scale: float = 2.0) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        boxes, labels = torch.zeros(len(numbers), 8, 4), torch.zeros(len(numbers), 8, dtype=torch.int64)
        valid = torch.zeros(len(numbers), 8, dtype=torch.bool)
        for image, number in enumerate(numbers):
            found = objects_of_their_own_anchor(ANCHORS, number, seed + image) if number else torch.zeros(0, 4)
            boxes[image, : len(found)] = found
            labels[image, : len(found)] = torch.randint(NUM_CLASSES, (len(found),), generator=generator)
            valid[image, : len(found)] = True
        shape = (len(numbers), len(ANCHORS))
        output = DetectorOutput(
            (torch.randn(*shape, 4, generator=generator) * scale).requires_grad_(),
            (torch.randn(*shape, NUM_CLASSES + 1, generator=generator) * scale).requires_grad_(),
        )
        return output, DetectionTargets(boxes, labels, valid)

    return make


def matched(targets: DetectionTargets, image: int) -> list[int]:
    """Return the object of each anchor of one image, -1 for background."""
    matches: list[int] = match_anchors(targets.boxes, targets.valid, ANCHORS)[image].tolist()
    return matches


def cross_entropy(logit: float, target: int) -> float:
    return max(logit, 0) - logit * target + math.log1p(math.exp(-abs(logit)))


def huber_loop(output: DetectorOutput, targets: DetectionTargets) -> tuple[float, int]:
    """Return the sum of the localisation loss and the number of positives."""
    total, positives = 0.0, 0
    for image in range(len(targets.valid)):
        for anchor, match in enumerate(matched(targets, image)):
            if match >= 0:
                positives += 1
                wanted = encode_boxes(targets.boxes[image, match], ANCHORS[anchor]).tolist()
                for found, code in zip(output.box_deltas[image, anchor].tolist(), wanted, strict=True):
                    error = abs(found - code)
                    total += 0.5 * error**2 if error <= 1 else error - 0.5
    return total, positives


@pytest.mark.parametrize("numbers", [(4,), (8, 0, 3), (0, 0)])
@pytest.mark.parametrize("seed", [0, 10])
def test_softmax_equals_torchvision(make_batch: Callable[..., Batch], numbers: tuple[int, ...], seed: int) -> None:
    output, targets = make_batch(*numbers, seed=seed)
    matches, annotations = [], []
    for boxes, labels, valid in zip(*targets, strict=True):
        iou = box_iou(boxes[valid], ANCHORS)
        matches.append(SSDMatcher(0.5)(iou) if valid.any() else torch.full((len(ANCHORS),), -1))
        annotations.append({"boxes": boxes[valid], "labels": labels[valid] + 1})
    expected = SSD.compute_loss(
        SimpleNamespace(box_coder=BoxCoder((10.0, 10.0, 5.0, 5.0)), neg_to_pos_ratio=3.0),
        annotations,
        {"bbox_regression": output.box_deltas, "cls_logits": output.class_logits},
        [ANCHORS] * len(numbers),
        matches,
    )
    loss = SoftmaxSSDLoss()(output, ANCHORS, targets)
    torch.testing.assert_close(loss.classification, expected["classification"])
    torch.testing.assert_close(loss.localization, expected["bbox_regression"])
    assert (loss.localization > 0) == any(numbers)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.75, 2.0), (0.25, 1.5)])
def test_focal_equals_its_definition(make_batch: Callable[..., Batch], alpha: float, gamma: float) -> None:
    output, targets = make_batch(6, 0, 4)
    total = 0.0
    for image, rows in enumerate(output.class_logits.tolist()):
        for row, match in zip(rows, matched(targets, image), strict=True):
            label = int(targets.labels[image, match]) + 1 if match >= 0 else None
            for slot, logit in enumerate(row):
                p = 1 / (1 + math.exp(-logit))
                if slot == label:
                    total += alpha * (1 - p) ** gamma * cross_entropy(logit, 1)
                else:
                    total += (1 - alpha) * p**gamma * cross_entropy(logit, 0)
    huber, positives = huber_loop(output, targets)
    loss = FocalSSDLoss(alpha, gamma)(output, ANCHORS, targets)
    assert loss.classification.item() == pytest.approx(total / positives, rel=1e-5)
    assert loss.localization.item() == pytest.approx(huber / 4 / positives, rel=1e-5)


@pytest.mark.parametrize(("ratio", "minimum"), [(3.0, 3), (0.5, 0), (0.0, 40)])
def test_sigmoid_equals_its_definition(make_batch: Callable[..., Batch], ratio: float, minimum: int) -> None:
    output, targets = make_batch(6, 0, 4)
    total = 0.0
    for image, rows in enumerate(output.class_logits.tolist()):
        positives, negatives = [], []
        for row, match in zip(rows, matched(targets, image), strict=True):
            label = int(targets.labels[image, match]) + 1 if match >= 0 else 0
            loss = sum(cross_entropy(logit, int(slot == label)) for slot, logit in enumerate(row))
            (positives if label else negatives).append(loss)
        kept = max(minimum, int(ratio * len(positives)))
        total += sum(positives) + sum(sorted(negatives, reverse=True)[:kept])
    huber, positives_of_batch = huber_loop(output, targets)
    terms = SigmoidSSDLoss(ratio, minimum)(output, ANCHORS, targets)
    assert terms.classification.item() == pytest.approx(total / positives_of_batch, rel=1e-5)
    assert terms.localization.item() == pytest.approx(huber / positives_of_batch, rel=1e-5)


@pytest.mark.parametrize(
    ("ratio", "minimum", "expected"),
    [
        (2.0, 0, [[9, 8, 0, 7, 0, 0], [0, 0, 0, 0, 0, 0]]),
        (1.5, 3, [[9, 8, 6, 7, 0, 0], [3, 3, 3, 0, 0, 0]]),
        (100.0, 9, [[9, 8, 6, 7, 5, 4], [3, 3, 3, 3, 3, 3]]),
    ],
)
def test_hard_negatives(ratio: float, minimum: int, expected: list[list[int]]) -> None:
    """One positive in the first image and none in the second, whose losses are all equal."""
    loss = torch.tensor([[9.0, 8, 6, 7, 5, 4], [3, 3, 3, 3, 3, 3]])
    positive = torch.zeros(2, 6, dtype=torch.bool)
    positive[0, 0] = True
    kept = keep_hard_negatives(loss, positive, ratio, minimum)
    torch.testing.assert_close(kept.sort(dim=1)[0], torch.tensor(expected, dtype=torch.float32).sort(dim=1)[0])
    torch.testing.assert_close(kept[0], torch.tensor(expected[0], dtype=torch.float32))


def test_a_positive_counts_however_easy() -> None:
    kept = keep_hard_negatives(torch.tensor([[0.1, 5, 4, 3]]), torch.tensor([[True, False, False, False]]), 2.0, 0)
    torch.testing.assert_close(kept, torch.tensor([[0.1, 5, 4, 0]]))


@each_loss
def test_normalisation_is_over_the_whole_batch(loss: SSDLoss, make_batch: Callable[..., Batch]) -> None:
    output, targets = make_batch(6, 0, 2)
    twice = [type(item)(*(torch.cat([tensor, tensor]) for tensor in item)) for item in (output, targets)]
    torch.testing.assert_close(loss(twice[0], ANCHORS, twice[1]), loss(output, ANCHORS, targets))


@each_loss
def test_a_batch_without_objects_is_finite(loss: SSDLoss, make_batch: Callable[..., Batch]) -> None:
    output, targets = make_batch(0, 0)
    terms = loss(output, ANCHORS, targets)
    sum(terms).backward()
    assert torch.stack(terms).isfinite().all()
    assert terms.localization == 0
    assert (terms.classification > 0) == (not isinstance(loss, SoftmaxSSDLoss))
    assert all(tensor.grad is not None and tensor.grad.isfinite().all() for tensor in output)


@each_loss
def test_half_precision_gives_float32(loss: SSDLoss, make_batch: Callable[..., Batch]) -> None:
    output, targets = make_batch(6, 2)
    terms = loss(DetectorOutput(*(tensor.bfloat16() for tensor in output)), ANCHORS, targets)
    assert [term.dtype for term in terms] == [torch.float32, torch.float32]
    torch.testing.assert_close(terms, loss(output, ANCHORS, targets), rtol=0.02, atol=0)


@each_loss
def test_gradients_are_finite_for_extreme_predictions(loss: SSDLoss, make_batch: Callable[..., Batch]) -> None:
    output, targets = make_batch(6, 0, scale=1e4)
    terms = loss(output, ANCHORS, targets)
    sum(terms).backward()
    assert torch.stack(terms).isfinite().all()
    for tensor in output:
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
        assert tensor.grad.any()


@each_loss
def test_boxes_of_background_anchors_do_not_count(loss: SSDLoss, make_batch: Callable[..., Batch]) -> None:
    output, targets = make_batch(6, 0)
    loss(output, ANCHORS, targets).localization.backward()
    positive = match_anchors(targets.boxes, targets.valid, ANCHORS) >= 0
    assert output.box_deltas.grad is not None
    assert torch.equal(output.box_deltas.grad.any(dim=-1), positive)


@pytest.mark.parametrize("loss", [FocalSSDLoss, SoftmaxSSDLoss, SigmoidSSDLoss])
def test_box_weight(loss: Callable[..., SSDLoss], make_batch: Callable[..., Batch]) -> None:
    batch, targets = make_batch(6, 2)
    plain, weighted = (loss(box_weight=weight)(batch, ANCHORS, targets) for weight in (1.0, 2.5))
    torch.testing.assert_close(weighted.localization, 2.5 * plain.localization)
    torch.testing.assert_close(weighted.classification, plain.classification)


@each_loss
def test_never_waits_for_the_device(loss: SSDLoss, make_batch: Callable[..., Batch]) -> None:
    """On the meta device no value exists, so a shape or branch that hangs on one raises."""
    output, targets = (type(item)(*(tensor.to("meta") for tensor in item)) for item in make_batch(6, 2))
    assert all(term.shape == () for term in loss(output, ANCHORS.to("meta"), targets))


@each_loss
def test_targets_without_a_single_row(loss: SSDLoss, make_batch: Callable[..., Batch]) -> None:
    """A data set without any object needs no padding, and costs the same as padding alone."""
    output, targets = make_batch(0, 0)
    none = DetectionTargets(*(part[:, :0] for part in targets))
    torch.testing.assert_close(loss(output, ANCHORS, none), loss(output, ANCHORS, targets))
