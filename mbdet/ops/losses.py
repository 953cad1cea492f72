"""The SSD training objective with the three classification losses of the published models.

Each is one batched tensor program of static shape: no Python loop over images, no wait for the device.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from mbdet.errors import InputError
from mbdet.ops.boxes import encode_boxes
from mbdet.ops.matching import match_anchors
from mbdet.ops.postprocess import Postprocess
from mbdet.types import DetectionTargets, DetectorOutput


class LossTerms(NamedTuple):
    """Both parts of the loss, scalars, already normalised and weighted; train on their sum."""

    classification: Tensor
    localization: Tensor


class SSDLoss(nn.Module, ABC):
    """Matching, Huber localisation loss and normalisation; subclasses add the classification loss.

    Both terms are sums over the whole batch divided by its number of matched anchors (ssd_meta_arch.py of the TF Object
    Detection API), so an image without objects costs nothing but its false alarms.

    Args:
        iou_threshold: Least IoU of a match, see `match_anchors`.
        box_weight: Weight of the localisation term.
        normalize_by_code_size: Divide the localisation term by 4, as the TF configs from 2018 on do.
    """

    scores: ClassVar[Literal["sigmoid", "softmax"]] = "sigmoid"

    def __init__(
        self, iou_threshold: float = 0.5, box_weight: float = 1.0, normalize_by_code_size: bool = False
    ) -> None:
        super().__init__()
        self.iou_threshold = iou_threshold
        self.box_weight = box_weight / 4 if normalize_by_code_size else box_weight

    def check_decoding(self, postprocess: Postprocess) -> None:
        """Refuse a decoding that does not turn logits into scores the way this loss trains them.

        Raises:
            InputError: If it does not.
        """
        if self.scores != postprocess.scores:
            raise InputError(
                f"{type(self).__name__} trains {self.scores} scores, but postprocess.scores is {postprocess.scores};"
                f" set postprocess.scores: {self.scores}"
            )

    def forward(self, output: DetectorOutput, anchors: Tensor, targets: DetectionTargets) -> LossTerms:
        """Compare raw predictions with the ground truth.

        Args:
            output: Raw predictions for B images and A anchors.
            anchors: (A, 4) xyxy pixels of the network input.
            targets: Ground truth in the same frame.

        Returns:
            Scalars in float32, whatever the network's precision.
        """
        if targets.valid.shape[1] == 0:  # what matches nothing still needs a row to point at
            targets = DetectionTargets(
                F.pad(targets.boxes, (0, 0, 0, 1)), F.pad(targets.labels, (0, 1)), F.pad(targets.valid, (0, 1))
            )
        matches = match_anchors(targets.boxes, targets.valid, anchors, self.iou_threshold)
        positive = matches >= 0
        matches = matches.clamp(min=0)
        labels = torch.where(positive, targets.labels.gather(1, matches) + 1, 0)  # slot 0 is background
        boxes = targets.boxes.gather(1, matches[..., None].expand(-1, -1, 4))

        normalizer = positive.sum().clamp(min=1)
        classification = self.classification_loss(output.class_logits.float(), labels).sum()
        distances = F.smooth_l1_loss(output.box_deltas.float(), encode_boxes(boxes, anchors), reduction="none")
        localization = torch.where(positive, distances.sum(dim=-1), 0.0).sum()
        return LossTerms(classification / normalizer, self.box_weight * localization / normalizer)

    @abstractmethod
    def classification_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of each anchor, (B, A), 0 where it does not count.

        Args:
            logits: (B, A, 1 + K) float32.
            labels: (B, A) int64, 0 for background, 1..K for the classes.
        """


class FocalSSDLoss(SSDLoss):
    """Sigmoid focal loss over all anchors (RetinaNet paper; alpha and gamma of the TF MobileNetV3 SSDLite configs).

    Background has no slot of its own to learn: its target is zero everywhere (encode_background_as_zeros).

    Args:
        alpha: Weight of the positives against 1 - alpha of the negatives.
        gamma: How much easy anchors are discounted.
        iou_threshold: See `SSDLoss`.
        box_weight: See `SSDLoss`.
        normalize_by_code_size: See `SSDLoss`.
    """

    def __init__(
        self,
        alpha: float = 0.75,
        gamma: float = 2.0,
        iou_threshold: float = 0.5,
        box_weight: float = 1.0,
        normalize_by_code_size: bool = True,
    ) -> None:
        super().__init__(iou_threshold, box_weight, normalize_by_code_size)
        self.alpha = alpha
        self.gamma = gamma

    def classification_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Sum the focal loss over the slots of each anchor."""
        target = F.one_hot(labels, logits.shape[-1]).to(logits.dtype)
        target[..., 0] = 0
        loss: Tensor = sigmoid_focal_loss(logits, target, self.alpha, self.gamma, reduction="none")
        return loss.sum(dim=-1)


class SoftmaxSSDLoss(SSDLoss):
    """Softmax cross-entropy with hard negative mining (SSD paper, section 2.2; torchvision's SSD and SSDLite).

    Args:
        negatives_per_positive: How many of an image's hardest negatives count, per positive.
        iou_threshold: See `SSDLoss`.
        box_weight: See `SSDLoss`.
    """

    scores = "softmax"

    def __init__(
        self, negatives_per_positive: float = 3.0, iou_threshold: float = 0.5, box_weight: float = 1.0
    ) -> None:
        super().__init__(iou_threshold, box_weight)
        self.negatives_per_positive = negatives_per_positive

    def classification_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of the positives and of the hardest negatives."""
        loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)
        return keep_hard_negatives(loss, labels > 0, self.negatives_per_positive, min_negatives=0)


class SigmoidSSDLoss(SSDLoss):
    """Per-slot sigmoid cross-entropy with hard negative mining (the classic TF configs, ssdlite_mobilenet_v2_coco).

    Background is trained as slot 0. TF first thins the candidates with NMS at IoU 0.99 on the predicted boxes, which
    removes exact repetitions only; that step is left out.

    Args:
        negatives_per_positive: How many of an image's hardest negatives count, per positive.
        min_negatives: At least so many count in every image, even in one without objects.
        iou_threshold: See `SSDLoss`.
        box_weight: See `SSDLoss`.
    """

    def __init__(
        self,
        negatives_per_positive: float = 3.0,
        min_negatives: int = 3,
        iou_threshold: float = 0.5,
        box_weight: float = 1.0,
    ) -> None:
        super().__init__(iou_threshold, box_weight)
        self.negatives_per_positive = negatives_per_positive
        self.min_negatives = min_negatives

    def classification_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy summed over slots, of the positives and of the hardest negatives."""
        target = F.one_hot(labels, logits.shape[-1]).to(logits.dtype)
        loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(dim=-1)
        return keep_hard_negatives(loss, labels > 0, self.negatives_per_positive, self.min_negatives)


def keep_hard_negatives(loss: Tensor, positive: Tensor, ratio: float, min_negatives: int) -> Tensor:
    """Zero the loss of all but the positives and each image's hardest negatives.

    Args:
        loss: (B, A) loss of each anchor.
        positive: (B, A) bool.
        ratio: Negatives kept per positive of the image.
        min_negatives: Negatives kept at least.

    Returns:
        (B, A) loss, 0 where the anchor does not count.
    """
    hardness = loss.detach().masked_fill(positive, -torch.inf)
    rank = hardness.argsort(dim=1, descending=True).argsort(dim=1)
    num_negatives = (ratio * positive.sum(dim=1, keepdim=True)).long().clamp(min=min_negatives)
    return torch.where(positive | (rank < num_negatives), loss, 0.0)
