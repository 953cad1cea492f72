"""Default boxes against the published ones, torchvision's and the numbers of the paper's formula."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_convert

from mbdet.ops import AnchorConfig, ssd_anchors
from mbdet.ops.anchors import anchors_per_cell

Grids = list[tuple[int, int]]
GRIDS_300: Grids = [(side, side) for side in (19, 10, 5, 3, 2, 1)]
GRIDS_320: Grids = [(side, side) for side in (20, 10, 5, 3, 2, 1)]
GRIDS_WIDE: Grids = [(12, 20), (6, 10), (3, 5), (2, 3), (1, 2), (1, 1)]  # of an image of 192 x 320
TF, TORCHVISION = AnchorConfig("tf"), AnchorConfig("torchvision")


@pytest.mark.parametrize(
    ("config", "grids", "number"),
    [(TF, GRIDS_300, 1917), (TF, GRIDS_320, 2034), (TORCHVISION, GRIDS_320, 3234)],
)
def test_numbers_of_the_published_models(config: AnchorConfig, grids: Grids, number: int) -> None:
    anchors = ssd_anchors(grids, (320, 320), config)
    assert anchors.shape == (number, 4)
    assert anchors.dtype == torch.float32
    per_cell = anchors_per_cell(6, config)
    assert per_cell == ([3, 6, 6, 6, 6, 6] if config is TF else [6] * 6)
    assert sum(rows * columns * cell for (rows, columns), cell in zip(grids, per_cell, strict=True)) == number


def test_tf_first_map_by_hand() -> None:
    """Scale 0.1, then 0.2 with ratios 2 and 1/2, around the first cell's centre at 150/19."""
    expected = [
        [-7.105263, -7.105263, 22.894737, 22.894737],
        [-34.531670, -13.318467, 50.321144, 29.107940],
        [-13.318467, -34.531670, 29.107940, 50.321144],
    ]
    torch.testing.assert_close(ssd_anchors(GRIDS_300, (300, 300), TF)[:3], torch.tensor(expected), rtol=0, atol=1e-4)


def test_tf_second_map_by_hand() -> None:
    """Scale 0.35 with ratios 1, 2, 1/2, 3, 0.3333, then the square of sqrt(0.35 * 0.5), around (15, 15)."""
    sizes = [(105, 105), (148.4924, 74.2462), (74.2462, 148.4924)]
    sizes += [(181.8653, 60.6218), (60.6187, 181.8744), (125.4990, 125.4990)]
    expected = [[15 - w / 2, 15 - h / 2, 15 + w / 2, 15 + h / 2] for w, h in sizes]
    anchors = ssd_anchors(GRIDS_300, (300, 300), TF)[19 * 19 * 3 :][:6]
    torch.testing.assert_close(anchors, torch.tensor(expected), rtol=0, atol=1e-4)


def test_tf_equals_the_published_anchors(real_data: Path) -> None:
    with np.load(real_data / "weights" / "ssdlite_mobilenet_v2_coco.npz") as arrays:
        yxyx = torch.from_numpy(arrays["Postprocessor|ExpandDims"][0])
    torch.testing.assert_close(ssd_anchors(GRIDS_300, (300, 300), TF), yxyx[:, [1, 0, 3, 2]] * 300, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("size", "grid"), [((192, 320), (2, 3)), ((320, 192), (3, 2))])
def test_tf_squares_are_square_on_any_image(size: tuple[int, int], grid: tuple[int, int]) -> None:
    """Sizes follow the shorter side, so they are those on a square image of it."""
    sizes = box_convert(ssd_anchors([grid, (1, 1)], size, TF), "xyxy", "cxcywh")[:, 2:]
    square = box_convert(ssd_anchors([(1, 1), (1, 1)], (192, 192), TF), "xyxy", "cxcywh")[:, 2:]
    torch.testing.assert_close(sizes, torch.cat([square[:3].repeat(6, 1), square[3:]]))
    torch.testing.assert_close(square[0], torch.tensor([19.2, 19.2]))


def test_order_is_anchor_then_x_then_y_then_map() -> None:
    centers = box_convert(ssd_anchors([(2, 3), (1, 2)], (40, 60), TF), "xyxy", "cxcywh")[:, :2]
    first = [[x, y] for y in (10, 30) for x in (10, 30, 50) for _ in range(3)]
    second = [[x, 20] for x in (15, 45) for _ in range(6)]
    torch.testing.assert_close(centers, torch.tensor(first + second, dtype=torch.float32))


@pytest.mark.parametrize(("size", "grids"), [((320, 320), GRIDS_320), ((192, 320), GRIDS_WIDE)])
def test_torchvision_layout_equals_torchvision(size: tuple[int, int], grids: Grids) -> None:
    generator = DefaultBoxGenerator([[2, 3]] * 6, min_ratio=0.2, max_ratio=0.95)
    (expected,) = generator(ImageList(torch.zeros(1, 3, *size), [size]), [torch.zeros(1, 8, *grid) for grid in grids])
    torch.testing.assert_close(ssd_anchors(grids, size, TORCHVISION), expected, rtol=0, atol=1e-4)
