"""Which anchor answers for which object."""

import torch
from torch import Tensor
from torchvision.ops import box_iou

BACKGROUND = -1


def match_anchors(boxes: Tensor, valid: Tensor, anchors: Tensor, iou_threshold: float = 0.5) -> Tensor:
    """Match every anchor with an object or with background, for a whole batch at once.

    An anchor takes the object that it overlaps most if their IoU reaches the threshold. Each object also takes its best
    anchor, however small the overlap; if two objects share it, the first keeps it (TF Object Detection API:
    argmax_matcher with force_match_for_each_row).

    Args:
        boxes: (B, M, 4) xyxy.
        valid: (B, M) bool, False on padding.
        anchors: (A, 4) xyxy in the same unit.
        iou_threshold: Least IoU of an unforced match.

    Returns:
        (B, A) int64, index of the object in 0..M-1, or -1 for background.
    """
    batch, num_boxes = valid.shape
    if num_boxes == 0:
        return torch.full((batch, len(anchors)), BACKGROUND, device=boxes.device)
    iou = box_iou(boxes.flatten(0, 1), anchors).view(batch, num_boxes, len(anchors))
    iou = iou.masked_fill(~valid[:, :, None], -1.0)

    best_iou, best_box = iou.max(dim=1)
    matches = torch.where(best_iou >= iou_threshold, best_box, BACKGROUND)

    index = torch.arange(num_boxes, device=boxes.device).expand(batch, -1)
    index = index.masked_fill(~valid, num_boxes)  # a padded row never wins the minimum
    forced = torch.full_like(matches, num_boxes)
    forced = forced.scatter_reduce(1, iou.argmax(dim=2), index, "amin")
    return torch.where(forced < num_boxes, forced, matches)
