"""Non-maximum suppression of a batch as an operator of static shape."""

import torch
from torch import Tensor
from torchvision.ops import nms


@torch.library.custom_op("mbdet::nms_mask", mutates_args=())
def nms_mask(boxes: Tensor, scores: Tensor, iou_threshold: float, score_threshold: float, limit: int) -> Tensor:
    """Say which boxes survive greedy suppression within their image.

    The usual operator returns as many indices as survive, which no static graph can hold. A mask has the shape of the
    scores, so decoding stays one tensor program, and an exporter can put its runtime's own operator in this place.

    Args:
        boxes: (B, N, 4) xyxy.
        scores: (B, N).
        iou_threshold: A box goes if its IoU with a better one that stays is larger.
        score_threshold: So does one that scores this or less.
        limit: So do all but so many that stay, the best by score, which lets a runtime end when it has them.

    Returns:
        (B, N) bool.
    """
    mask = torch.zeros_like(scores, dtype=torch.bool)
    for image_mask, image_boxes, image_scores in zip(mask, boxes, scores, strict=True):
        # Only these: in a trained network most boxes score next to nothing, and they can suppress none of the others.
        rows = (image_scores > score_threshold).nonzero().squeeze(1)
        image_mask[rows[nms(image_boxes[rows], image_scores[rows], iou_threshold)[:limit]]] = True
    return mask


@nms_mask.register_fake
def _(boxes: Tensor, scores: Tensor, iou_threshold: float, score_threshold: float, limit: int) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)
