"""Default boxes of SSD, in the two layouts that published weights use."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

Shape = tuple[float, float]  # width, height


@dataclass(frozen=True)
class AnchorConfig:
    """Sizes and shapes of the default boxes (SSD paper, section 2.2).

    Args:
        layout: `tf` is the TF Object Detection API's (3 anchors on the first map, 6 on the others; squares stay square
            on any image); `torchvision` is torchvision's (6 on every map; anchors stretch with the image).
        min_scale: Size of the anchors of the first map, as a part of the image.
        max_scale: Size on the last map; the maps between are spaced evenly.
        aspect_ratios: Width by height of the anchors other than the square ones; each with its inverse.
    """

    layout: Literal["tf", "torchvision"] = "tf"
    min_scale: float = 0.2
    max_scale: float = 0.95
    aspect_ratios: tuple[float, ...] = (2.0, 3.0)

    def shapes(self, num_maps: int) -> list[list[Shape]]:
        """Return width and height of every anchor of every map, as parts of the image's side."""
        steps = max(num_maps - 1, 1)
        scales = [self.min_scale + (self.max_scale - self.min_scale) * i / steps for i in range(num_maps)] + [1.0]
        maps = _tf_shapes if self.layout == "tf" else _torchvision_shapes
        return maps(scales, self.aspect_ratios)


def _tf_shapes(scales: Sequence[float], ratios: Sequence[float]) -> list[list[Shape]]:
    """multiple_grid_anchor_generator.create_ssd_anchors with reduce_boxes_in_lowest_layer."""
    # The published configs write the inverse of 3 as 0.3333, and the published anchors show it in the fifth digit.
    both_ways = [value for ratio in ratios for value in (ratio, round(1 / ratio, 4))]
    lowest = [(0.1, 0.1)] + [_stretch(scales[0], ratio) for ratio in both_ways[:2]]
    others = [
        [(scale, scale)] + [_stretch(scale, ratio) for ratio in both_ways] + [(math.sqrt(scale * larger),) * 2]
        for scale, larger in pairwise(scales[1:])
    ]
    return [lowest, *others]


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
        y, x = torch.meshgrid(
            (torch.arange(rows, dtype=torch.float64) + 0.5) * height / rows,
            (torch.arange(columns, dtype=torch.float64) + 0.5) * width / columns,
            indexing="ij",
        )
        centers = torch.stack([x, y], dim=-1)[:, :, None]  # (rows, columns, 1, 2)
        half_sizes = 0.5 * torch.tensor(shapes, dtype=torch.float64) * torch.tensor([base_width, base_height])
        maps.append(torch.cat([centers - half_sizes, centers + half_sizes], dim=-1).reshape(-1, 4))
    return torch.cat(maps).float()


def anchors_per_cell(num_maps: int, config: AnchorConfig) -> list[int]:
    """Return how many anchors each cell of each map carries: the heads' widths follow from it."""
    return [len(shapes) for shapes in config.shapes(num_maps)]
