"""Box coding against torchvision's and by hand."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder

from mbdet.ops import decode_boxes, encode_boxes

TORCHVISION = BoxCoder(weights=(10.0, 10.0, 5.0, 5.0))
places = st.floats(-1000, 1000)
sizes = st.floats(8, 400)  # never more than 62 times one another, beyond which decoding is capped


@st.composite
def box(draw: st.DrawFn) -> list[float]:
    x, y = draw(places), draw(places)
    return [x, y, x + draw(sizes), y + draw(sizes)]


def test_encoding_by_hand() -> None:
    anchor = torch.tensor([[10.0, 20.0, 30.0, 60.0]])  # centre 20, 40; size 20 x 40
    boxes = torch.tensor([[9.0, 40.0, 49.0, 60.0]])  # centre 29, 50; size 40 x 20
    expected = torch.tensor([[10 * 9 / 20, 10 * 10 / 40, 5 * math.log(2), -5 * math.log(2)]])
    torch.testing.assert_close(encode_boxes(boxes, anchor), expected)
    torch.testing.assert_close(decode_boxes(expected, anchor), boxes)


def test_encoding_equals_torchvision(random_boxes: Callable[..., Tensor]) -> None:
    boxes, anchors = random_boxes(500, seed=0), random_boxes(500, seed=1)
    torch.testing.assert_close(encode_boxes(boxes, anchors), TORCHVISION.encode_single(boxes, anchors))


def test_decoding_equals_torchvision_also_where_the_size_is_capped(random_boxes: Callable[..., Tensor]) -> None:
    anchors = random_boxes(500, seed=1)
    deltas = torch.randn(500, 4, generator=torch.Generator().manual_seed(2)) * 15
    assert (deltas[:, 2:] / 5 > math.log(1000 / 16)).any()
    expected = TORCHVISION.decode_single(deltas, anchors)
    torch.testing.assert_close(decode_boxes(deltas, anchors), expected, rtol=1e-5, atol=1e-3)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(box(), box()), min_size=1, max_size=5))
def test_decoding_inverts_encoding(pairs: list[tuple[list[float], list[float]]]) -> None:
    boxes, anchors = torch.tensor(pairs, dtype=torch.float64).unbind(dim=1)
    torch.testing.assert_close(decode_boxes(encode_boxes(boxes, anchors), anchors), boxes, rtol=1e-9, atol=1e-9)


def test_a_batch_equals_its_images_one_by_one(random_boxes: Callable[..., Tensor]) -> None:
    anchors, boxes = random_boxes(20, seed=0), random_boxes(60, seed=1).view(3, 20, 4)
    codes = encode_boxes(boxes, anchors)
    torch.testing.assert_close(codes, torch.stack([encode_boxes(image, anchors) for image in boxes]))
    torch.testing.assert_close(decode_boxes(codes, anchors), boxes, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("boxes", [[0.0, 0, 0, 0], [5.0, 5, 5, 9], [9.0, 9, 5, 5], [-1e6, -1e6, 1e6, 1e6]])
def test_codes_of_degenerate_boxes_are_finite(boxes: list[float]) -> None:
    assert encode_boxes(torch.tensor([boxes]), torch.tensor([[0.0, 0, 10, 10]])).isfinite().all()


def test_boxes_of_absurd_deltas_are_finite() -> None:
    deltas = torch.tensor([[1e6, -1e6, 1e6, -1e6]], requires_grad=True)
    boxes = decode_boxes(deltas, torch.tensor([[0.0, 0, 10, 10]]))
    boxes.sum().backward()
    assert boxes.isfinite().all()
    assert deltas.grad is not None
    assert deltas.grad.isfinite().all()
