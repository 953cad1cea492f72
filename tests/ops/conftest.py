"""Random ground truth for the tests of the tensor functions."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou


@pytest.fixture
def random_boxes() -> Callable[..., Tensor]:
    """Return a function that draws boxes inside a square image."""

    def draw(number: int, seed: int, side: float = 320.0) -> Tensor:
        corners = torch.rand(number, 2, 2, generator=torch.Generator().manual_seed(seed)) * side
        low, high = corners.amin(dim=1), corners.amax(dim=1)
        return torch.cat([low, (high + 1).clamp(max=side)], dim=1)

    return draw


@pytest.fixture
def objects_of_their_own_anchor(random_boxes: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return a function that draws boxes of which no two have the same best anchor."""

    def draw(anchors: Tensor, number: int, seed: int) -> Tensor:
        boxes = random_boxes(number, seed, side=float(anchors.max()))
        best = box_iou(boxes, anchors).argmax(dim=1).tolist()
        return boxes[[best.index(anchor) == index for index, anchor in enumerate(best)]]

    return draw
