"""From raw predictions to detections."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from mbdet.ops.boxes import decode_boxes
from mbdet.ops.nms import nms_mask
from mbdet.types import DetectorOutput, PaddedDetections

Scores = Literal["sigmoid", "softmax"]


@dataclass(frozen=True)
class Postprocess:
    """Scores, decoding and suppression: one top-k, one class-aware NMS, one static shape.

    Args:
        scores: How logits become scores: `sigmoid` for the TF losses, `softmax` for torchvision's.
        score_threshold: Detections at or below it are dropped. Evaluation wants it near 0, a demo near 0.5.
        iou_threshold: NMS drops a box whose IoU with a better one of its class is larger (0.6 in the TF configs).
        max_candidates: How many (anchor, class) pairs of an image reach the NMS, the best by score.
        max_per_class: Detections of one class in an image at most.
        max_detections: Detections in an image at most; the padded length D, unless there are fewer candidates.
    """

    scores: Scores = "sigmoid"
    score_threshold: float = 0.01
    iou_threshold: float = 0.6
    max_candidates: int = 1000
    max_per_class: int = 100
    max_detections: int = 100

    def __post_init__(self) -> None:
        """Refuse a misspelt option, which would silently act as the other one."""
        if self.scores not in get_args(Scores):
            raise ValueError(f"scores is {self.scores!r}; it must be one of {get_args(Scores)}")

    def __call__(self, output: DetectorOutput, anchors: Tensor, input_size: tuple[int, int]) -> PaddedDetections:
        """Decode a batch.

        Args:
            output: Raw predictions for B images and A anchors.
            anchors: (A, 4) xyxy pixels of the network input.
            input_size: Its height and width; boxes are clipped to it.

        Returns:
            At most `max_detections` per image, best first.
        """
        probabilities = self.probabilities(output)
        num_classes = probabilities.shape[-1]
        num_candidates = min(self.max_candidates, probabilities.shape[1] * num_classes)
        scores, index = probabilities.flatten(1).topk(num_candidates)
        labels = index % num_classes
        anchor = index // num_classes

        deltas = output.box_deltas.float().gather(1, anchor[..., None].expand(-1, -1, 4))
        boxes = clip(decode_boxes(deltas, anchors[anchor]), input_size)

        tiles = separate_classes(boxes, labels, num_classes, input_size)
        empty = ~(boxes[..., 2:] > boxes[..., :2]).all(dim=-1)  # also what is not a number
        candidate_scores = scores.masked_fill(empty, -1.0)
        # No more than are kept at last, unless some of them may be too many of their class.
        enough = self.max_detections if self.max_per_class >= self.max_detections else num_candidates
        keep = nms_mask(tiles, candidate_scores, self.iou_threshold, self.score_threshold, enough)
        if self.max_per_class < self.max_detections:
            keep &= rank_in_class(labels, keep) < self.max_per_class
        return _best(boxes, scores, labels, keep, min(self.max_detections, num_candidates))

    def all_candidates(
        self, output: DetectorOutput, anchors: Tensor, input_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Decode every anchor and suppress nothing, for a device whose runtime has no suppression.

        Args:
            output: As for a call.
            anchors: Likewise.
            input_size: Likewise.

        Returns:
            Boxes (B, A, 4), xyxy pixels of the network input, clipped to it, and scores (B, A, K) of the classes.
        """
        return clip(decode_boxes(output.box_deltas.float(), anchors), input_size), self.probabilities(output)

    def probabilities(self, output: DetectorOutput) -> Tensor:
        """Return the scores (B, A, K) of the classes without background."""
        logits = output.class_logits.float()
        return (logits.sigmoid() if self.scores == "sigmoid" else logits.softmax(dim=-1))[..., 1:]


def clip(boxes: Tensor, input_size: tuple[int, int]) -> Tensor:
    """Cut boxes (..., 4) to the image; those beside it become empty."""
    height, width = input_size
    # Side by side with plain numbers: a tensor of limits would be copied to the device at every call, and not every
    # format of files has slices with a step.
    sides = boxes.chunk(4, dim=-1)
    return torch.cat([side.clamp(0, limit) for side, limit in zip(sides, (width, height) * 2, strict=True)], dim=-1)


def separate_classes(boxes: Tensor, labels: Tensor, num_classes: int, input_size: tuple[int, int]) -> Tensor:
    """Move each class's boxes to a tile of their own, so that one NMS never compares two classes.

    A square arrangement of tiles keeps the coordinates some ten times smaller than a row of them, and with them the
    rounding error of the IoU.
    """
    height, width = input_size
    columns = math.ceil(math.sqrt(num_classes))
    offset = torch.stack([labels % columns * (width + 1), labels // columns * (height + 1)], dim=-1)
    return boxes + torch.cat([offset, offset], dim=-1)


def rank_in_class(labels: Tensor, keep: Tensor) -> Tensor:
    """Return (B, N): how many kept candidates of the same class stand before each one."""
    same = (labels[:, :, None] == labels[:, None, :]) & keep[:, None, :]
    return same.tril(diagonal=-1).sum(dim=-1)


def _best(boxes: Tensor, scores: Tensor, labels: Tensor, keep: Tensor, size: int) -> PaddedDetections:
    """Move the kept candidates, already in order of score, to the front and cut to `size`."""
    # Whole numbers rather than scores: equal scores then keep their order in every runtime.
    order = keep * torch.arange(keep.shape[1], 0, -1, device=keep.device)
    position, index = order.topk(size)
    found = position > 0
    return PaddedDetections(
        boxes=torch.where(found[..., None], boxes.gather(1, index[..., None].expand(-1, -1, 4)), 0.0),
        scores=torch.where(found, scores.gather(1, index), 0.0),
        labels=torch.where(found, labels.gather(1, index), -1),
        counts=found.sum(dim=1),
    )
