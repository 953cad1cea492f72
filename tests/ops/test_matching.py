"""Matching by hand, against torchvision's matcher, and what must hold for any objects."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.models.detection._utils import SSDMatcher
from torchvision.ops import box_iou

from mbdet.ops import AnchorConfig, match_anchors, ssd_anchors

ANCHORS = torch.tensor([[0.0, 0, 10, 10], [10, 0, 20, 10], [0, 0, 20, 10], [100, 100, 110, 110]])
GRID_ANCHORS = ssd_anchors([(4, 4), (2, 2)], (64, 64), AnchorConfig())


def match(boxes: list[list[float]] | Tensor, anchors: Tensor = ANCHORS, threshold: float = 0.5) -> list[int]:
    """Match the objects of a single image."""
    tensor = torch.as_tensor(boxes, dtype=torch.float32).view(1, -1, 4)
    matches: list[int] = match_anchors(tensor, torch.ones(1, len(boxes), dtype=torch.bool), anchors, threshold)[
        0
    ].tolist()
    return matches


def pad(images: list[list[list[float]]], length: int) -> tuple[Tensor, Tensor]:
    """Pad the images' objects with boxes that would match every anchor if they counted."""
    anything = [[0.0, 0, 64, 64], [0, 0, 16, 16], [16, 16, 48, 48]] * length
    boxes = torch.tensor([(image + anything)[:length] for image in images]).view(len(images), length, 4)
    return boxes, torch.arange(length) < torch.tensor([[len(image)] for image in images])


@st.composite
def objects(draw: st.DrawFn) -> list[list[float]]:
    """Draw the objects of an image of 64 x 64 pixels."""
    edges = st.lists(st.integers(0, 64), min_size=2, max_size=2, unique=True).map(sorted)
    spans = draw(st.lists(st.tuples(edges, edges), max_size=6))
    return [[float(x[0]), float(y[0]), float(x[1]), float(y[1])] for x, y in spans]


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        pytest.param([[0, 0, 10, 9], [8, 0, 20, 10]], [0, 1, 1, -1], id="IoU .9, 0, .45 and .1, .83, .6"),
        pytest.param([[0, 0, 10, 10]], [0, -1, 0, -1], id="exactly 0.5 is a match"),
        pytest.param([[100, 100, 104, 104]], [-1, -1, -1, 0], id="the best anchor even at IoU 0.16"),
        pytest.param([[0, 0, 4, 10], [0, 0, 16, 10]], [0, -1, 1, -1], id="forced at .4 against another's .625"),
        pytest.param([[0, 0, 16, 10], [0, 0, 4, 10]], [1, -1, 0, -1], id="likewise in the other order"),
        pytest.param([[100, 100, 104, 104], [100, 100, 110, 108]], [-1, -1, -1, 0], id="the first keeps it, worse"),
        pytest.param([[100, 100, 110, 108], [100, 100, 104, 104]], [-1, -1, -1, 0], id="the first keeps it, better"),
    ],
)
def test_by_hand(boxes: list[list[float]], expected: list[int]) -> None:
    assert match(boxes) == expected


def test_threshold() -> None:
    assert match([[0, 0, 10, 10]], threshold=0.51) == [0, -1, -1, -1]


@pytest.mark.parametrize("seed", range(5))
def test_equals_torchvision(objects_of_their_own_anchor: Callable[..., Tensor], seed: int) -> None:
    boxes = objects_of_their_own_anchor(GRID_ANCHORS, 12, seed)
    assert len(boxes) > 4
    expected = SSDMatcher(0.5)(box_iou(boxes, GRID_ANCHORS))
    assert match(boxes, GRID_ANCHORS) == expected.tolist()


@pytest.mark.parametrize("length", [0, 1, 5])
def test_an_image_without_objects_is_all_background(length: int) -> None:
    boxes, valid = pad([[], []], length)
    matches = match_anchors(boxes, valid, GRID_ANCHORS)
    assert matches.shape == (2, len(GRID_ANCHORS))
    assert (matches == -1).all()


def test_padding_is_never_matched() -> None:
    boxes, valid = pad([[[30.0, 30, 34, 34]], []], length=6)
    matches = match_anchors(boxes, valid, GRID_ANCHORS)
    assert set(matches[0].tolist()) == {-1, 0}
    assert set(matches[1].tolist()) == {-1}


@settings(deadline=None, max_examples=50)
@given(objects())
def test_every_object_has_an_anchor_unless_an_earlier_one_took_it(boxes: list[list[float]]) -> None:
    matches = match(boxes, GRID_ANCHORS) if boxes else []
    best = box_iou(torch.tensor(boxes), GRID_ANCHORS).argmax(dim=1).tolist() if boxes else []
    for index, anchor in enumerate(best):
        assert matches[anchor] == best.index(anchor)
        assert index in matches or anchor in best[:index]


@settings(deadline=None, max_examples=50)
@given(st.lists(objects(), min_size=1, max_size=3), st.integers(1, 5))
def test_a_padded_batch_equals_its_images_one_by_one(images: list[list[list[float]]], padding: int) -> None:
    matches = match_anchors(*pad(images, max(map(len, images)) + padding), GRID_ANCHORS)
    for row, image in zip(matches.tolist(), images, strict=True):
        assert row == (match(image, GRID_ANCHORS) if image else [-1] * len(GRID_ANCHORS))
