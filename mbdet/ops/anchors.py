"""Default boxes of SSD, in the two layouts that published weights use."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor

Shape = tuple[float, float]  # width, height


Layout = Literal["tf", "torchvision"]


@dataclass(frozen=True)
class AnchorConfig:
    """Sizes and shapes of the default boxes (SSD paper, section 2.2).

    Args:
        layout: `tf` is the TF Object Detection API's (squares stay square on any image); `torchvision` is torchvision's
            (anchors stretch with the image).
        min_scale: Size of the anchors of the first map, as a part of the image.
        max_scale: Size on the last map; the maps between are spaced evenly.
        aspect_ratios: Width by height of the anchors other than the square ones; each with its inverse.
        reduce_lowest: `tf` only: 3 anchors on the first map, a square of 0.1 and both shapes of ratio 2, instead of 6.
    """

    layout: Layout = "tf"
    min_scale: float = 0.2
    max_scale: float = 0.95
    aspect_ratios: tuple[float, ...] = (2.0, 3.0)
    reduce_lowest: bool = True

    def __post_init__(self) -> None:
        """Refuse a misspelt option, which would silently act as the other one."""
        if self.layout not in get_args(Layout):
            raise ValueError(f"layout is {self.layout!r}; it must be one of {get_args(Layout)}")

    def shapes(self, num_maps: int) -> list[list[Shape]]:
        """Return width and height of every anchor of every map, as parts of the image's side."""
        steps = max(num_maps - 1, 1)
        scales = [self.min_scale + (self.max_scale - self.min_scale) * i / steps for i in range(num_maps)] + [1.0]
        if self.layout == "torchvision":
            return _torchvision_shapes(scales, self.aspect_ratios)
        return _tf_shapes(scales, self.aspect_ratios, self.reduce_lowest)


def _tf_shapes(scales: Sequence[float], ratios: Sequence[float], reduce_lowest: bool) -> list[list[Shape]]:
    """multiple_grid_anchor_generator.create_ssd_anchors."""
    # The published configs write the inverse of 3 as 0.3333, and the published anchors show it in the fifth digit.
    both_ways = [value for ratio in ratios for value in (ratio, round(1 / ratio, 4))]
    maps = [
        [(scale, scale)] + [_stretch(scale, ratio) for ratio in both_ways] + [(math.sqrt(scale * larger),) * 2]
        for scale, larger in pairwise(scales)
    ]
    if reduce_lowest:
        maps[0] = [(0.1, 0.1), _stretch(scales[0], 2.0), _stretch(scales[0], 0.5)]
    return maps


def _torchvision_shapes(scales: Sequence[float], ratios: Sequence[float]) -> list[list[Shape]]:
    """torchvision.models.detection.anchor_utils.DefaultBoxGenerator, sides limited to the image's."""
    maps = []
    for scale, larger in pairwise(scales):
        shapes = [(scale, scale), (math.sqrt(scale * larger),) * 2]
        for ratio in ratios:
            shapes += [_stretch(scale, ratio), _stretch(scale, 1 / ratio)]
        maps.append([(min(width, 1.0), min(height, 1.0)) for width, height in shapes])
    return maps


def _stretch(scale: float, ratio: float) -> Shape:
    return scale * math.sqrt(ratio), scale / math.sqrt(ratio)


def ssd_anchors(grids: Sequence[tuple[int, int]], image_size: tuple[int, int], config: AnchorConfig) -> Tensor:
    """Lay the default boxes over the feature maps.

    Args:
        grids: Height and width of each feature map, finest first.
        image_size: Height and width of the network input in pixels.
        config: Their sizes and shapes.

    Returns:
        (A, 4) float32 xyxy pixels of the network input, not clipped. Order: anchor of the cell fastest, then x, then y,
        then map.
    """
    height, width = image_size
    # TF scales by the shorter side, so that a ratio of 1 is a square in pixels; torchvision by each side.
    base_width, base_height = (min(height, width),) * 2 if config.layout == "tf" else (width, height)
    maps = []
    for (rows, columns), shapes in zip(grids, config.shapes(len(grids)), strict=True):
        y = (torch.arange(rows, dtype=torch.float64) + 0.5) * height / rows
        x = (torch.arange(columns, dtype=torch.float64) + 0.5) * width / columns
        sizes = torch.tensor(shapes, dtype=torch.float64) * torch.tensor([base_width, base_height])
        maps.append(place_boxes(y, x, sizes))
    return torch.cat(maps).float()


def place_boxes(y: Tensor, x: Tensor, sizes: Tensor) -> Tensor:
    """Put boxes of every size on every cell of one map.

    Args:
        y: (rows,) centres in pixels.
        x: (columns,) centres in pixels.
        sizes: (N, 2) width and height in pixels.

    Returns:
        (rows * columns * N, 4) xyxy pixels, size fastest, then x, then y.
    """
    centers = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[:, :, None]  # (rows, columns, 1, 2)
    return torch.cat([centers - sizes / 2, centers + sizes / 2], dim=-1).reshape(-1, 4)


def anchors_per_cell(num_maps: int, config: AnchorConfig) -> list[int]:
    """Return how many anchors each cell of each map carries: the heads' widths follow from it."""
    return [len(shapes) for shapes in config.shapes(num_maps)]
