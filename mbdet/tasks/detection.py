"""Training and validation of a detector with Lightning."""

from collections.abc import Sequence
from typing import cast

import numpy as np
from lightning.pytorch.cli import OptimizerCallable
from numpy.typing import NDArray
from torch import Tensor

from mbdet.data.detection_dataset import DetectionSample
from mbdet.errors import InputError
from mbdet.export.detection import DetectionExport
from mbdet.models import Detector
from mbdet.ops import Postprocess, SSDLoss
from mbdet.predictor import TorchPredictor, to_detections
from mbdet.runtime.draw import draw_detections
from mbdet.runtime.types import Detections
from mbdet.tasks.base import Task
from mbdet.tasks.schedule import Schedule
from mbdet.types import DetectionBatch, DetectorOutput


class DetectionTask(Task):
    """A detector with its loss, its decoding and its schedule.

    Args:
        network: The detector.
        loss: What it is trained on.
        optimizer: Makes the optimiser from parameters; its weight decay touches convolution kernels only.
        postprocess: Decoding for validation, prediction and export.
        warmup_steps: Optimiser steps over which the learning rate rises linearly to its full value.
        class_names: The K names in the order of the labels; by default those of the data.
        weights: All weights to start from, a file or a published name.
        backbone_weights: The backbone's weights to start from, likewise.
        schedule: How the learning rate goes on after the warm-up; None is a cosine to zero at the end of the training.

    Raises:
        InputError: If the decoding does not turn logits into scores the way the loss trains them.
    """

    monitor = "AP"
    class_hint = "; background does not count"
    network: Detector

    def __init__(
        self,
        network: Detector,
        loss: SSDLoss,
        optimizer: OptimizerCallable,
        postprocess: Postprocess = Postprocess(),  # noqa: B008 -- frozen
        warmup_steps: int = 0,
        class_names: Sequence[str] | None = None,
        weights: str | None = None,
        backbone_weights: str | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        super().__init__(
            network, optimizer, schedule, warmup_steps, class_names, weights, backbone_weights, decay_depthwise=True
        )
        loss.check_decoding(postprocess)
        self.loss = loss
        self.postprocess = postprocess

    def predictor(self, device: str | None = None) -> TorchPredictor:
        """See `Task.predictor`."""
        return TorchPredictor(self.network, self.names, self.postprocess, device)

    def export(self) -> DetectionExport:
        """See `Task.export`."""
        return DetectionExport(self.network, self.postprocess)

    def draw(self, sample: DetectionSample, found: Detections) -> NDArray[np.uint8]:
        """Draw the objects that score half or more; dashed boxes are the ground truth."""
        return draw_detections(sample.image, found, self.names, 0.5, sample.boxes)

    def forward(self, images: Tensor) -> DetectorOutput:
        """See `Detector.forward`."""
        return cast(DetectorOutput, self.network(images))

    def training_step(self, batch: DetectionBatch, batch_idx: int) -> Tensor:
        """Return the loss of one batch.

        Raises:
            InputError: If it is of one image, of which batch norm can learn nothing on the smallest maps.
        """
        size = len(batch.images)
        if size == 1:
            raise InputError(
                "a training step of one image gives batch norm nothing to compare on the 1x1 maps; give"
                " --data.batch_size 2 or more, and as many training images per device"
            )
        terms = self.loss(self(batch.images), self.network.anchors, batch.targets)
        loss: Tensor = terms.classification + terms.localization
        self.log_loss(loss, size)
        for name, term in (("train_loss_class", terms.classification), ("train_loss_box", terms.localization)):
            self.log(name, term, on_step=False, on_epoch=True, batch_size=size, sync_dist=True)
        return loss

    def validation_step(self, batch: DetectionBatch, batch_idx: int) -> None:
        """Add one batch to the loss and to the detections to score."""
        output = self(batch.images)
        terms = self.loss(output, self.network.anchors, batch.targets)
        self.log("val_loss", terms.classification + terms.localization, batch_size=len(batch.images), sync_dist=True)
        padded = self.postprocess(output, self.network.anchors, self.network.input_size)
        self.collect(batch, to_detections(padded, self.network.input_size, batch.sizes.cpu().numpy()))
