"""Pyramid anchors against the published numbers and by hand."""

import pytest
import torch
from torchvision.ops import box_convert

from mbdet.ops import MultiscaleAnchorConfig, multiscale_anchors

STRIDES = (8, 16, 32, 64, 128)
TF = MultiscaleAnchorConfig()


def grids(height: int, width: int) -> list[tuple[int, int]]:
    return [(-(-height // stride), -(-width // stride)) for stride in STRIDES]


@pytest.mark.parametrize(("side", "number"), [(256, 8184), (320, 12804), (640, 51150)])
def test_numbers_of_the_published_models(side: int, number: int) -> None:
    anchors = multiscale_anchors(grids(side, side), STRIDES, (side, side), TF)
    assert anchors.shape == (number, 4)
    assert anchors.dtype == torch.float32


def test_first_cell_by_hand() -> None:
    """Ratios 1, 2, 1/2 with sides 32 and 32 * sqrt(2) each, around (4, 4)."""
    sizes = [(32, 32), (45.2548, 45.2548), (45.2548, 22.6274), (64, 32), (22.6274, 45.2548), (32, 64)]
    expected = [[4 - w / 2, 4 - h / 2, 4 + w / 2, 4 + h / 2] for w, h in sizes]
    anchors = multiscale_anchors(grids(320, 320), STRIDES, (320, 320), TF)
    torch.testing.assert_close(anchors[:6], torch.tensor(expected), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "level", "y", "x"),
    [
        ((256, 320), 4, [64, 192], [0, 128, 256]),
        ((320, 256), 4, [0, 128, 256], [64, 192]),
        ((256, 320), 3, [32, 96, 160, 224], [32, 96, 160, 224, 288]),
        ((300, 300), 1, [16 * row for row in range(19)], [16 * column for column in range(19)]),
    ],
)
def test_centres_are_inside_the_cells_only_where_those_fill_the_image(
    size: tuple[int, int], level: int, y: list[int], x: list[int]
) -> None:
    cells = [rows * columns for rows, columns in grids(*size)]
    start, number = 6 * sum(cells[:level]), 6 * cells[level]
    anchors = multiscale_anchors(grids(*size), STRIDES, size, TF)[start : start + number]
    centers = box_convert(anchors, "xyxy", "cxcywh")[:, :2]
    expected = [[column, row] for row in y for column in x for _ in range(6)]
    torch.testing.assert_close(centers, torch.tensor(expected, dtype=torch.float32))


def test_sizes_double_from_level_to_level() -> None:
    anchors = multiscale_anchors([(1, 1)] * 5, STRIDES, (256, 256), TF)
    sizes = box_convert(anchors, "xyxy", "cxcywh")[:, 2:].view(5, 6, 2)
    torch.testing.assert_close(sizes[1:], 2 * sizes[:-1])


def test_options() -> None:
    config = MultiscaleAnchorConfig(scale=3.0, aspect_ratios=(4.0,), scales_per_octave=3)
    assert config.per_cell == 3
    sizes = box_convert(multiscale_anchors([(1, 1)], [16], (16, 16), config), "xyxy", "cxcywh")[:, 2:]
    sides = torch.tensor([48.0, 60.4762, 76.1953])  # by the cube root of 2
    torch.testing.assert_close(sizes, torch.stack([2 * sides, sides / 2], dim=1), rtol=0, atol=1e-3)
