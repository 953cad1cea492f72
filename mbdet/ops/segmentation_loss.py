"""The training objective of segmenters: cross entropy over the pixels that count, and what may be added to it."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mbdet.errors import InputError
from mbdet.runtime.types import IGNORED
from mbdet.types import SegmenterOutput


class SegmentationLoss(nn.Module):
    """Mean cross entropy per pixel, of the main logits and, less weighted, of the auxiliary ones.

    Losses of whole regions, such as Dice and Lovász, come from a library: any module called with logits (B, K, H, W)
    and masks (B, H, W) int64 that leaves 255 out. Of segmentation-models-pytorch (`pip install 'mbdet[losses]'`) give

        extra: {class_path: segmentation_models_pytorch.losses.LovaszLoss,
                init_args: {mode: multiclass, ignore_index: 255}}

    Args:
        class_weights: One per class, for classes of few pixels; the mean is weighted too. By default all are 1.
        hard_probability: Online hard example mining: only pixels whose class has at most this probability count. None
            lets all pixels count, as the papers do.
        hard_fraction: With it, part of a batch's pixels that count at least, the hardest of them.
        extra: A further loss, of the main logits.
        extra_weight: Its weight.
        aux_weight: Weight of the auxiliary logits' cross entropy; 0.5 in torchvision's reference, 0.4 in PSPNet.

    Raises:
        InputError: If a number is out of range.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        class_weights: Sequence[float] | None = None,
        hard_probability: float | None = None,
        hard_fraction: float = 0.0625,
        extra: nn.Module | None = None,
        extra_weight: float = 1.0,
        aux_weight: float = 0.5,
    ) -> None:
        super().__init__()
        if class_weights is not None and (min(class_weights, default=0) < 0 or sum(class_weights) == 0):
            raise InputError(f"loss.class_weights is {list(class_weights)}; give 0 or more, and not 0 alone")
        for name, value in (("hard_probability", hard_probability), ("hard_fraction", hard_fraction)):
            if value is not None and not 0 < value <= 1:
                raise InputError(f"loss.{name} is {value}; give a number above 0 and at most 1")
        if min(extra_weight, aux_weight) < 0:
            raise InputError(f"loss.extra_weight is {extra_weight}, aux_weight {aux_weight}; give 0 or more")
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        # Part of the recipe, not of what was learned.
        self.register_buffer("class_weights", weights, persistent=False)
        self.hard_probability, self.hard_fraction = hard_probability, hard_fraction
        self.extra = extra
        self.extra_weight, self.aux_weight = extra_weight, aux_weight

    def check_classes(self, num_classes: int) -> None:
        """Compare the weights with a network's number of classes.

        Raises:
            InputError: If they are of another number.
        """
        if self.class_weights is not None and len(self.class_weights) != num_classes:
            raise InputError(
                f"loss.class_weights has {len(self.class_weights)} numbers, but the network has {num_classes} classes;"
                " give one for each"
            )

    def forward(self, output: SegmenterOutput, masks: Tensor) -> Tensor:
        """Return the loss.

        Args:
            output: Of B images.
            masks: (B, H, W), any integer type, 0..K-1 or 255 where a pixel does not count.

        Returns:
            A scalar; 0 where no pixel counts.
        """
        targets = masks.long()
        loss = self.cross_entropy(output.logits, targets)
        if output.aux_logits is not None:
            loss = loss + self.aux_weight * self.cross_entropy(output.aux_logits, targets)
        # The libraries divide by the number of pixels that count.
        if self.extra is not None and (targets != IGNORED).any():
            loss = loss + self.extra_weight * self.extra(output.logits.float(), targets)
        return loss

    def cross_entropy(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross entropy of logits (B, K, H, W) over the pixels of targets (B, H, W) that count."""
        losses = F.cross_entropy(logits.float(), targets, reduction="none", ignore_index=IGNORED)
        counts = targets != IGNORED
        if self.hard_probability is not None:
            counts = counts & self._hard(losses.detach(), counts)
        weights = counts.to(losses.dtype)
        if self.class_weights is not None:
            weights = weights * self.class_weights[torch.where(counts, targets, 0)]
        total = weights.sum()
        return (losses * weights).sum() / torch.where(total > 0, total, 1)

    def _hard(self, losses: Tensor, counts: Tensor) -> Tensor:
        """Mark the pixels whose loss is as high as the threshold says, or among the highest."""
        assert self.hard_probability is not None
        if not losses.numel():
            return counts
        ordered = losses.flatten().sort(descending=True).values
        # A tensor as the index, so that nothing waits for the device.
        last = (self.hard_fraction * counts.sum()).long().clamp(1, losses.numel()) - 1
        threshold = -torch.log(losses.new_tensor(self.hard_probability))
        return losses >= torch.minimum(ordered[last], threshold)
