"""Training and validation of a segmenter with Lightning."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from lightning.pytorch.cli import OptimizerCallable
from numpy.typing import NDArray
from torch import Tensor

from mbdet.data.segmentation_dataset import SegmentationSample
from mbdet.errors import InputError
from mbdet.export.segmentation import SegmentationExport
from mbdet.metrics.segmentation import Confusion, confusion_matrix
from mbdet.models import Segmenter
from mbdet.ops import SegmentationLoss
from mbdet.predictor import TorchSegmenter, to_segmentations
from mbdet.runtime.draw_maps import draw_map
from mbdet.runtime.image import Resizing
from mbdet.runtime.predictor import Predictor
from mbdet.runtime.types import Segmentation
from mbdet.tasks.base import Task
from mbdet.tasks.schedule import PolynomialDecay, Schedule
from mbdet.types import SegmentationBatch, SegmenterOutput


class SegmentationTask(Task):
    """A segmenter with its loss and its schedule.

    Args:
        network: The segmenter.
        optimizer: Makes the optimiser from parameters; its weight decay leaves batch norms and biases alone.
        loss: What it is trained on; by default cross entropy.
        schedule: How the learning rate goes on after the warm-up; None is the papers' polynomial of power 0.9.
        warmup_steps: Optimiser steps over which the learning rate rises linearly to its full value.
        decay_depthwise: Whether weight decay touches depthwise kernels.
        resizing: How pictures are brought to the network input, as in the data.
        test_scales: Sizes at which `evaluate` and `predict` test each image, see `TorchSegmenter`; the validation in a
            training has the one of the network input.
        test_flip: Whether they test each mirrored too.
        class_names: The K names in the order of the labels; by default those of the data.
        weights: All weights to start from, a file or a published name.
        backbone_weights: The backbone's weights to start from, likewise.

    Raises:
        InputError: If the loss has weights for another number of classes.
    """

    monitor = "mIoU"
    class_hint = "; background, where the data has one, counts"
    network: Segmenter

    def __init__(
        self,
        network: Segmenter,
        optimizer: OptimizerCallable,
        loss: SegmentationLoss | None = None,
        schedule: Schedule | None = None,
        warmup_steps: int = 0,
        decay_depthwise: bool = True,
        resizing: Resizing = "stretch",
        test_scales: Sequence[float] = (1.0,),
        test_flip: bool = False,
        class_names: Sequence[str] | None = None,
        weights: str | None = None,
        backbone_weights: str | None = None,
    ) -> None:
        schedule = schedule or PolynomialDecay()
        super().__init__(
            network, optimizer, schedule, warmup_steps, class_names, weights, backbone_weights, decay_depthwise
        )
        self.loss = loss or SegmentationLoss()
        self.loss.check_classes(network.num_classes)
        self.resizing: Resizing = resizing
        self.test_scales, self.test_flip = tuple(test_scales), test_flip

    def predictor(self, device: str | None = None) -> TorchSegmenter:
        """See `Task.predictor`."""
        return TorchSegmenter(self.network, self.names, self.resizing, self.test_scales, self.test_flip, device)

    def export(self) -> SegmentationExport:
        """See `Task.export`."""
        return SegmentationExport(self.network, self.resizing)

    def draw(self, sample: SegmentationSample, found: Segmentation) -> NDArray[np.uint8]:
        """Lay the classes over the image, and beside it, on the right, those of the ground truth."""
        return draw_map(sample.image, found.classes, self.names, sample.mask)

    def check_data(self, data: Any) -> None:
        """See `Task.check_data`; the way to the network input must be the same too."""
        super().check_data(data)
        resizing = getattr(data, "resizing", "stretch")  # which data modules of others need not name
        if resizing != self.resizing:
            raise InputError(f"data.resizing is {resizing}, but model.resizing is {self.resizing}; give both the same")

    def check_predictor(self, predictor: Predictor[Any], data: Any) -> None:
        """See `Task.check_predictor`.

        Raises:
            InputError: Also if the task is to test several scales or mirror images, which no exported file does.
        """
        super().check_predictor(predictor, data)
        if self.test_scales != (1.0,) or self.test_flip:
            raise InputError(
                "an exported file tests each image once; leave out test_scales and test_flip, or evaluate a checkpoint"
            )

    def evidence(self, batch: SegmentationBatch, found: Sequence[Segmentation]) -> list[Confusion]:
        """Return the confusion matrix of each image, at its original resolution."""
        return [
            confusion_matrix(truth, prediction.classes, self.network.num_classes)
            for truth, prediction in zip(batch.original_masks, found, strict=True)
        ]

    def forward(self, images: Tensor) -> SegmenterOutput:
        """See `Segmenter.forward`."""
        return cast(SegmenterOutput, self.network(images))

    def training_step(self, batch: SegmentationBatch, batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        loss: Tensor = self.loss(self(batch.images), batch.masks)
        self.log_loss(loss, len(batch.images))
        return loss

    def validation_step(self, batch: SegmentationBatch, batch_idx: int) -> None:
        """Add one batch to the loss and to the classes to score."""
        output = self(batch.images)
        self.log("val_loss", self.loss(output, batch.masks), batch_size=len(batch.images), sync_dist=True)
        found = to_segmentations(output.logits.float().softmax(1), batch.sizes.cpu().numpy(), self.resizing)
        self.collect(batch, found)
