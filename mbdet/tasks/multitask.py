"""Training and validation of two heads on one backbone with Lightning."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch.cli import OptimizerCallable
from numpy.typing import NDArray
from torch import Tensor

from mbdet.data.detection_dataset import DetectionSample
from mbdet.data.multitask_dataset import MultiTaskSample
from mbdet.data.segmentation_dataset import SegmentationSample
from mbdet.errors import InputError
from mbdet.export.multitask import MultiTaskExport
from mbdet.metrics.multitask import Evidence
from mbdet.metrics.segmentation import Confusion, confusion_matrix
from mbdet.models import MultiTask
from mbdet.ops import Postprocess, SegmentationLoss, SSDLoss
from mbdet.predictor import TorchMultiTask, number_classes, to_detections, to_segmentations
from mbdet.runtime.multitask import MultiTaskPredictor, draw_both
from mbdet.runtime.predictor import Predictor
from mbdet.runtime.types import MultiTaskPrediction
from mbdet.tasks.base import Task
from mbdet.tasks.detection import DetectionTask
from mbdet.tasks.schedule import Schedule
from mbdet.tasks.segmentation import SegmentationTask
from mbdet.types import (
    DetectionBatch,
    DetectorOutput,
    MultiTaskBatch,
    MultiTaskOutput,
    SegmentationBatch,
    SegmenterOutput,
    TwoBatches,
)

Batch = MultiTaskBatch | DetectionBatch | SegmentationBatch


class MultiTaskTask(Task):
    """A multitask network with both losses, its decoding and its schedule.

    It trains on batches with boxes and masks (`MultiTaskBatch`), or on a batch of each in every step (`TwoBatches`).

    Args:
        network: The network.
        detection_loss: What the detector is trained on.
        optimizer: Makes the optimiser from parameters; its weight decay leaves batch norms and biases alone.
        segmentation_loss: What the segmenter is trained on; by default cross entropy.
        detection_weight: Of the detector's loss in the sum of both.
        segmentation_weight: Of the segmenter's.
        postprocess: Decoding for validation, prediction and export.
        schedule: How the learning rate goes on after the warm-up; None is a cosine to zero at the end of the training.
        warmup_steps: Optimiser steps over which the learning rate rises linearly to its full value.
        decay_depthwise: Whether weight decay touches depthwise kernels.
        class_names: The names of the objects' classes in the order of the labels; by default those of the data.
        segment_names: The names of the pixels' classes, likewise.
        weights: All weights to start from, a file or a published name.
        backbone_weights: The backbone's weights to start from, likewise.

    Raises:
        InputError: If a weight is not above 0, the decoding does not turn logits into scores the way the loss trains
            them, or the segmenter's loss has weights for another number of classes.
    """

    monitor = "AP_mIoU"
    network: MultiTask

    def __init__(
        self,
        network: MultiTask,
        detection_loss: SSDLoss,
        optimizer: OptimizerCallable,
        segmentation_loss: SegmentationLoss | None = None,
        detection_weight: float = 1.0,
        segmentation_weight: float = 1.0,
        postprocess: Postprocess = Postprocess(),  # noqa: B008 -- frozen
        schedule: Schedule | None = None,
        warmup_steps: int = 0,
        decay_depthwise: bool = True,
        class_names: Sequence[str] | None = None,
        segment_names: Sequence[str] | None = None,
        weights: str | None = None,
        backbone_weights: str | None = None,
    ) -> None:
        super().__init__(
            network, optimizer, schedule, warmup_steps, class_names, weights, backbone_weights, decay_depthwise
        )
        if not min(detection_weight, segmentation_weight) > 0:
            raise InputError(
                f"detection_weight is {detection_weight}, segmentation_weight {segmentation_weight}; give numbers above"
                " 0, or train a single head as a task of its own"
            )
        detection_loss.check_decoding(postprocess)
        self.detection_loss, self.segmentation_loss = detection_loss, segmentation_loss or SegmentationLoss()
        self.segmentation_loss.check_classes(network.segmenter.num_classes)
        self.loss_weights = {"detection": detection_weight, "segmentation": segmentation_weight}
        self.postprocess = postprocess
        self.segment_names = None if segment_names is None else tuple(segment_names)
        self._validated: dict[str, Tensor] = {}  # of each head, the sum of its losses and its number of images

    @property
    def pixel_names(self) -> tuple[str, ...]:
        """The names of the pixels' classes, made up where nobody gave any."""
        return self.segment_names or number_classes(self.network.segmenter.num_classes)

    def predictor(self, device: str | None = None) -> TorchMultiTask:
        """See `Task.predictor`."""
        return TorchMultiTask(self.network, self.names, self.pixel_names, self.postprocess, device)

    def export(self) -> MultiTaskExport:
        """See `Task.export`."""
        return MultiTaskExport(self.network, self.postprocess, self.pixel_names)

    def draw(
        self, sample: MultiTaskSample | DetectionSample | SegmentationSample, found: MultiTaskPrediction
    ) -> NDArray[np.uint8]:
        """Draw the objects that score half or more over the classes; dashed boxes are the ground truth.

        Where there is a mask, it is drawn beside that, on the right, with the true boxes over it.
        """
        boxes = None if isinstance(sample, SegmentationSample) else sample.boxes
        mask = None if isinstance(sample, DetectionSample) else sample.mask
        return draw_both(sample.image, found, self.names, self.pixel_names, 0.5, boxes, mask)

    def setup(self, stage: str) -> None:
        """See `Task.setup`."""
        super().setup(stage)
        self.segment_names = tuple(cast(Any, self.data).segment_names)

    def check_heads(self, data: Any) -> None:
        """See `Task.check_heads`.

        Raises:
            InputError: Also if the data has no masks.
        """
        if not hasattr(data, "segment_names"):
            raise InputError(
                f"data: a {type(data).__name__} gives one task its data; a multitask network needs boxes and masks, of"
                " mbdet.data.MultiTaskDataModule or of two sets, of mbdet.data.TwoSetsDataModule"
            )
        detector, segmenter = self.network.detector, self.network.segmenter
        DetectionTask.check_classes(detector.num_classes, self.class_names, data.class_names, "detector.")
        SegmentationTask.check_classes(
            segmenter.num_classes, self.segment_names, data.segment_names, "segmenter.", "segment_names"
        )

    def check_predictor(self, predictor: Predictor[Any], data: Any) -> None:
        """See `Task.check_predictor`."""
        super().check_predictor(predictor, data)
        names = cast(MultiTaskPredictor, predictor).segment_names
        SegmentationTask.check_classes(len(names), names, data.segment_names, "segmenter.", "segment_names")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """See `Task.on_save_checkpoint`."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["segment_names"] = list(self.segment_names or ())

    def evidence(self, batch: Batch, found: Sequence[MultiTaskPrediction]) -> list[Evidence]:
        """Return the objects of each image if the batch has boxes, its confusion matrix if the batch has masks."""
        objects = [None if isinstance(batch, SegmentationBatch) else prediction.detections for prediction in found]
        confusions: list[Confusion | None] = [None] * len(found)
        if not isinstance(batch, DetectionBatch):
            confusions = [
                confusion_matrix(truth, prediction.segmentation.classes, self.network.segmenter.num_classes)
                for truth, prediction in zip(batch.original_masks, found, strict=True)
            ]
        return [Evidence(*pair) for pair in zip(objects, confusions, strict=True)]

    def forward(self, images: Tensor) -> MultiTaskOutput:
        """See `MultiTask.forward`."""
        return cast(MultiTaskOutput, self.network(images))

    def training_step(self, batch: Batch | TwoBatches, batch_idx: int) -> Tensor:
        """Return the weighted sum of both heads' losses.

        Raises:
            InputError: If the detector is given one image, of which batch norm can learn nothing on the smallest maps.
        """
        losses: dict[str, Tensor] = {}
        parts = parts_of(batch)
        for part in parts:
            size = len(part.images)
            if size == 1 and not isinstance(part, SegmentationBatch):
                raise InputError(
                    "a training step of one image gives batch norm nothing to compare on the 1x1 maps; give"
                    " 2 images per batch or more, and as many training images per device"
                )
            found = self.losses(part, *self.outputs(part))
            for name, loss in found.items():
                self.log(f"train_loss_{name}", loss, on_step=False, on_epoch=True, batch_size=size, sync_dist=True)
            losses |= found
        total = self.weigh(losses)
        self.log_loss(total, sum(len(part.images) for part in parts))
        return total

    def outputs(self, batch: Batch) -> tuple[DetectorOutput | None, SegmenterOutput | None]:
        """Run the heads that a batch has targets for: the batch norms of the other must not learn from its images."""
        if isinstance(batch, MultiTaskBatch):
            return cast(MultiTaskOutput, self(batch.images))
        features = self.network.backbone(batch.images)
        detection = segmentation = None
        if not isinstance(batch, SegmentationBatch):
            detection = self.network.detector.from_features(features)
        if not isinstance(batch, DetectionBatch):
            segmentation = self.network.segmenter.from_features(features, batch.images.shape[-2:])
        return detection, segmentation

    def losses(
        self, batch: Batch, detection: DetectorOutput | None, segmentation: SegmenterOutput | None
    ) -> dict[str, Tensor]:
        """Return the loss of each head that a batch has targets for, by the names of their weights."""
        losses: dict[str, Tensor] = {}
        if detection is not None and not isinstance(batch, SegmentationBatch):
            terms = self.detection_loss(detection, self.network.detector.anchors, batch.targets)
            losses["detection"] = terms.classification + terms.localization
        if segmentation is not None and not isinstance(batch, DetectionBatch):
            losses["segmentation"] = self.segmentation_loss(segmentation, batch.masks)
        return losses

    def weigh(self, losses: dict[str, Tensor]) -> Tensor:
        """Return the weighted sum of the losses."""
        return torch.stack([self.loss_weights[name] * loss for name, loss in losses.items()]).sum()

    def on_validation_epoch_start(self) -> None:
        """See `Task.on_validation_epoch_start`."""
        super().on_validation_epoch_start()
        self._validated = {name: torch.zeros(2, device=self.device) for name in self.loss_weights}

    def validation_step(self, batch: Batch | TwoBatches, batch_idx: int) -> None:
        """Add one batch to the losses, and to the objects and classes to score."""
        for part in parts_of(batch):
            output, sizes = self(part.images), part.sizes.cpu().numpy()
            for name, loss in self.losses(part, *output).items():
                size = len(part.images)
                self._validated[name] += torch.stack([loss.float() * size, loss.new_tensor(size, dtype=torch.float32)])
            padded = self.postprocess(output.detection, self.network.detector.anchors, self.network.input_size)
            objects = to_detections(padded, self.network.input_size, sizes)
            maps = to_segmentations(output.segmentation.logits.float().softmax(1), sizes, "stretch")
            self.collect(part, [MultiTaskPrediction(*pair) for pair in zip(objects, maps, strict=True)])

    def on_validation_epoch_end(self) -> None:
        """See `Task.on_validation_epoch_end`.

        The loss is the weighted sum of each head's mean, which two sets of different sizes have over different images.
        """
        super().on_validation_epoch_end()
        means = {}
        for name, validated in self._validated.items():
            total, images = self.trainer.strategy.reduce(validated, reduce_op="sum")
            means[name] = total / images.clamp(min=1)
            self.log(f"val_loss_{name}", means[name], sync_dist=True)
        self.log("val_loss", self.weigh(means), sync_dist=True)


def parts_of(batch: Batch | TwoBatches) -> list[Batch]:
    """Return the batches that are there of two sets, or the only one."""
    return [part for part in batch if part is not None] if isinstance(batch, TwoBatches) else [batch]
