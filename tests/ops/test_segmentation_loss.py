"""The loss of segmenters: by hand, against PyTorch, and what may be added to it."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mbdet.errors import InputError
from mbdet.ops import SegmentationLoss
from mbdet.types import SegmenterOutput


@pytest.fixture(params=["LovaszLoss", "DiceLoss"])
def library_loss(request: pytest.FixtureRequest) -> nn.Module:
    losses = pytest.importorskip("segmentation_models_pytorch.losses", reason="needs mbdet[losses]")
    loss: nn.Module = getattr(losses, request.param)(mode="multiclass", ignore_index=255)
    return loss


def random_case(seed: int = 0, num_classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, num_classes, 5, 6, generator=generator, requires_grad=True)
    masks = torch.randint(num_classes, (2, 5, 6), generator=generator, dtype=torch.uint8)
    masks[torch.rand(masks.shape, generator=generator) < 0.3] = 255
    return logits, masks


def test_is_the_mean_cross_entropy_of_pixels_that_count() -> None:
    probabilities = torch.tensor([[0.5, 0.2, 0.9], [0.5, 0.8, 0.1]]).reshape(1, 2, 1, 3)
    masks = torch.tensor([[[0, 1, 255]]], dtype=torch.uint8)
    loss = SegmentationLoss()(SegmenterOutput(probabilities.log(), None), masks)
    assert loss.item() == pytest.approx(-(math.log(0.5) + math.log(0.8)) / 2)


@pytest.mark.parametrize("weights", [None, [1.0, 0.5, 2.0, 0.0]])
def test_agrees_with_pytorch(weights: list[float] | None) -> None:
    logits, masks = random_case()
    loss = SegmentationLoss(weights)(SegmenterOutput(logits, None), masks)
    tensor = None if weights is None else torch.tensor(weights)
    torch.testing.assert_close(loss, F.cross_entropy(logits, masks.long(), tensor, ignore_index=255))


def test_auxiliary_logits_add_their_share() -> None:
    (logits, masks), (aux, _) = random_case(), random_case(1)
    loss = SegmentationLoss(aux_weight=0.4)(SegmenterOutput(logits, aux), masks)
    each = [F.cross_entropy(part, masks.long(), ignore_index=255) for part in (logits, aux)]
    torch.testing.assert_close(loss, each[0] + 0.4 * each[1])
    loss.backward()
    assert aux.grad is not None
    assert aux.grad.any()


@pytest.mark.parametrize(
    ("probability", "fraction", "kept"),
    [
        (0.5, 0.01, [0.1, 0.4, 0.5]),  # by the threshold
        (0.2, 0.01, [0.1]),
        (0.01, 0.4, [0.1, 0.4]),  # by the least number: two of five
        (1.0, 0.01, [0.1, 0.4, 0.5, 0.8, 0.9]),
    ],
)
def test_only_hard_pixels_count(probability: float, fraction: float, kept: list[float]) -> None:
    right = torch.tensor([0.9, 0.1, 0.8, 0.4, 0.5, 0.001])  # the last is ignored, however hard
    logits = torch.stack([right, 1 - right]).log().reshape(1, 2, 1, 6)
    masks = torch.tensor([[[0, 0, 0, 0, 0, 255]]])
    loss = SegmentationLoss(hard_probability=probability, hard_fraction=fraction)(SegmenterOutput(logits, None), masks)
    assert loss.item() == pytest.approx(-sum(map(math.log, kept)) / len(kept), rel=1e-4)


def test_a_librarys_loss_of_regions_is_added_and_knows_what_is_ignored(library_loss: nn.Module) -> None:
    logits, masks = random_case()
    loss = SegmentationLoss(extra=library_loss, extra_weight=0.5)
    plain, both = SegmentationLoss()(SegmenterOutput(logits, None), masks), loss(SegmenterOutput(logits, None), masks)
    assert 0.05 < both - plain < 0.5
    both.backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    ignored = (masks == 255)[:, None].expand_as(logits)
    assert not logits.grad[ignored].any()
    assert logits.grad[~ignored].all()


def test_nothing_that_counts_costs_nothing_of_a_librarys_loss(library_loss: nn.Module) -> None:
    logits, masks = random_case()
    loss = SegmentationLoss(extra=library_loss)(SegmenterOutput(logits, None), torch.full_like(masks, 255))
    assert loss.item() == 0


@pytest.mark.parametrize("options", [{}, {"hard_probability": 0.7}, {"class_weights": [0.0, 1, 1, 1]}])
def test_nothing_that_counts_costs_nothing(options: dict[str, float]) -> None:
    logits, masks = random_case()
    loss = SegmentationLoss(**options)(SegmenterOutput(logits, None), torch.full_like(masks, 255))
    assert loss.item() == 0
    loss.backward()
    assert logits.grad is not None
    assert not logits.grad.any()


def test_half_precision_is_summed_in_full() -> None:
    logits, masks = random_case()
    half = SegmentationLoss()(SegmenterOutput(logits.bfloat16(), None), masks)
    assert half.dtype == torch.float32


@pytest.mark.parametrize(
    "options",
    [
        {"class_weights": [-1.0, 2.0]},
        {"class_weights": [0.0, 0.0]},
        {"hard_probability": 0.0},
        {"hard_probability": 0.7, "hard_fraction": 1.5},
        {"extra_weight": -1.0},
        {"aux_weight": -1.0},
    ],
)
def test_numbers_out_of_range(options: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"^loss\.\w+ is"):
        SegmentationLoss(**options)


def test_weights_of_another_number_of_classes() -> None:
    with pytest.raises(InputError, match="has 2 numbers, but the network has 3 classes"):
        SegmentationLoss([1.0, 2.0]).check_classes(3)


@pytest.mark.parametrize("options", [{}, {"hard_probability": 0.7}])
def test_a_batch_of_no_images_costs_nothing(options: dict[str, float]) -> None:
    logits, masks = random_case()
    assert SegmentationLoss(**options)(SegmenterOutput(logits[:0], None), masks[:0]).item() == 0
