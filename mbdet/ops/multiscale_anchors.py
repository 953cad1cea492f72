"""Anchors of a feature pyramid, whose sizes follow the strides of its levels (RetinaNet paper, section 4)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mbdet.ops.anchors import place_boxes


@dataclass(frozen=True)
class MultiscaleAnchorConfig:
    """Sizes and shapes of a pyramid's anchors, the same in every cell.

    Args:
        scale: Side of a level's smallest square anchor, in strides of the level.
        aspect_ratios: Width by height.
        scales_per_octave: Sizes from one level to the next, evenly spaced in their logarithm.
    """

    scale: float = 4.0
    aspect_ratios: tuple[float, ...] = (1.0, 2.0, 0.5)
    scales_per_octave: int = 2

    @property
    def per_cell(self) -> int:
        """How many anchors each cell carries."""
        return len(self.aspect_ratios) * self.scales_per_octave


def multiscale_anchors(
    grids: Sequence[tuple[int, int]],
    strides: Sequence[int],
    image_size: tuple[int, int],
    config: MultiscaleAnchorConfig,
) -> Tensor:
    """Lay the anchors over the levels of a pyramid (multiscale_grid_anchor_generator.py of the TF API).

    Args:
        grids: Height and width of each level, finest first.
        strides: Pixels per cell of each level.
        image_size: Height and width of the network input in pixels.
        config: Their sizes and shapes.

    Returns:
        (A, 4) float32 xyxy pixels of the network input, not clipped. Order: size fastest, then ratio, x, y, level.
    """
    levels = []
    for (rows, columns), stride in zip(grids, strides, strict=True):
        # TF centres the anchors in their cells only where whole cells fill the image; else the first sits on its edge.
        y_offset, x_offset = (0.0 if side % stride else stride / 2 for side in image_size)
        y = torch.arange(rows, dtype=torch.float64) * stride + y_offset
        x = torch.arange(columns, dtype=torch.float64) * stride + x_offset
        sizes = [
            (side * math.sqrt(ratio), side / math.sqrt(ratio))
            for ratio in config.aspect_ratios
            for side in (
                config.scale * stride * 2 ** (step / config.scales_per_octave)
                for step in range(config.scales_per_octave)
            )
        ]
        levels.append(place_boxes(y, x, torch.tensor(sizes, dtype=torch.float64)))
    return torch.cat(levels).float()
