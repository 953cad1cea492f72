"""Box coding of SSD: offsets of a box relative to an anchor."""

import math

import torch
from torch import Tensor
from torchvision.ops import box_convert

# TF Object Detection API: faster_rcnn_box_coder with y_scale = x_scale = 10, height_scale = width_scale = 5.
OFFSET_SCALE, SIZE_SCALE = 10.0, 5.0
# An untrained network may predict any size; e^4.1 = 62 times the anchor is plenty and never overflows.
MAX_LOG_SIZE = math.log(1000.0 / 16)


def encode_boxes(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Code boxes as offsets from anchors (SSD paper, section 2.2; weights of the TF Object Detection API).

    Args:
        boxes: (..., A, 4) xyxy, in any unit. Empty boxes give finite numbers that mean nothing.
        anchors: (A, 4) xyxy in the same unit, of positive size.

    Returns:
        (..., A, 4) as dx, dy, dw, dh: centre offsets in anchor sizes times 10, log size ratios times 5.
    """
    centers, sizes = box_convert(boxes, "xyxy", "cxcywh").chunk(2, dim=-1)
    anchor_centers, anchor_sizes = box_convert(anchors, "xyxy", "cxcywh").chunk(2, dim=-1)
    offsets = (centers - anchor_centers) / anchor_sizes
    log_sizes = torch.log(sizes.clamp(min=1e-8) / anchor_sizes)
    return torch.cat([OFFSET_SCALE * offsets, SIZE_SCALE * log_sizes], dim=-1)


def decode_boxes(deltas: Tensor, anchors: Tensor) -> Tensor:
    """Turn offsets back into boxes, the inverse of `encode_boxes`.

    Args:
        deltas: (..., A, 4) as dx, dy, dw, dh.
        anchors: (..., A, 4) xyxy.

    Returns:
        (..., A, 4) xyxy in the anchors' unit, not clipped.
    """
    offsets, log_sizes = deltas.chunk(2, dim=-1)
    anchor_centers, anchor_sizes = box_convert(anchors, "xyxy", "cxcywh").chunk(2, dim=-1)
    centers = offsets / OFFSET_SCALE * anchor_sizes + anchor_centers
    half_sizes = 0.5 * torch.exp((log_sizes / SIZE_SCALE).clamp(max=MAX_LOG_SIZE)) * anchor_sizes
    return torch.cat([centers - half_sizes, centers + half_sizes], dim=-1)
