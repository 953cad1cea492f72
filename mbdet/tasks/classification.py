"""Training and validation of a classifier with Lightning."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from lightning.pytorch.cli import OptimizerCallable
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mbdet.data.image_folder import ClassificationSample
from mbdet.errors import InputError
from mbdet.export.classification import ClassificationExport
from mbdet.models import Classifier
from mbdet.predictor import TorchClassifier, to_classifications
from mbdet.runtime.draw import draw_classification
from mbdet.runtime.types import Classification
from mbdet.tasks.base import Task
from mbdet.tasks.schedule import Schedule
from mbdet.types import ClassificationBatch


class ClassificationTask(Task):
    """A classifier, trained on cross entropy, with its schedule.

    Args:
        network: The classifier.
        optimizer: Makes the optimiser from parameters; its weight decay leaves batch norms and biases alone.
        label_smoothing: Part of the target that is spread over all classes, 0 to less than 1.
        schedule: How the learning rate goes on after the warm-up; None is a cosine to zero at the end of the training.
        warmup_steps: Optimiser steps over which the learning rate rises linearly to its full value.
        decay_depthwise: Whether weight decay touches depthwise kernels; in slim's recipes it does not.
        eval_crop: Side of the central part of a picture that the network sees, in sides of the picture, as in the data.
        class_names: The K names in the order of the labels; by default those of the data.
        weights: All weights to start from, a file or a published name.
        backbone_weights: The backbone's weights to start from, likewise.

    Raises:
        InputError: If `label_smoothing` or `eval_crop` is out of range.
    """

    monitor = "top1"
    network: Classifier

    def __init__(
        self,
        network: Classifier,
        optimizer: OptimizerCallable,
        label_smoothing: float = 0.0,
        schedule: Schedule | None = None,
        warmup_steps: int = 0,
        decay_depthwise: bool = False,
        eval_crop: float = 0.875,
        class_names: Sequence[str] | None = None,
        weights: str | None = None,
        backbone_weights: str | None = None,
    ) -> None:
        super().__init__(
            network, optimizer, schedule, warmup_steps, class_names, weights, backbone_weights, decay_depthwise
        )
        if not 0 <= label_smoothing < 1:
            raise InputError(f"label_smoothing is {label_smoothing}; give a number from 0 to less than 1")
        if not 0 < eval_crop <= 1:
            raise InputError(f"eval_crop is {eval_crop}; give a number above 0 and at most 1")
        self.label_smoothing = label_smoothing
        self.eval_crop = eval_crop

    def predictor(self, device: str | None = None) -> TorchClassifier:
        """See `Task.predictor`."""
        return TorchClassifier(self.network, self.names, self.eval_crop, device)

    def export(self) -> ClassificationExport:
        """See `Task.export`."""
        return ClassificationExport(self.network, self.eval_crop)

    def draw(self, sample: ClassificationSample, found: Classification) -> NDArray[np.uint8]:
        """Write the predicted class, its probability and the true class."""
        return draw_classification(sample.image, found, self.names, sample.label)

    def check_data(self, data: Any) -> None:
        """See `Task.check_data`; the part of a picture that counts must be the same too."""
        super().check_data(data)
        if data.eval_crop != self.eval_crop:
            raise InputError(
                f"data.eval_crop is {data.eval_crop}, but model.eval_crop is {self.eval_crop}; give both the same"
            )

    def forward(self, images: Tensor) -> Tensor:
        """See `Classifier.forward`."""
        return cast(Tensor, self.network(images))

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross entropy of logits (B, K) and labels (B,), 0 of no images."""
        total = F.cross_entropy(logits, labels, reduction="sum", label_smoothing=self.label_smoothing)
        return total / max(1, len(labels))

    def training_step(self, batch: ClassificationBatch, batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        loss = self.loss(self(batch.images), batch.labels)
        self.log_loss(loss, len(batch.images))
        return loss

    def validation_step(self, batch: ClassificationBatch, batch_idx: int) -> None:
        """Add one batch to the loss and to the classes to score."""
        logits = self(batch.images)
        self.log("val_loss", self.loss(logits, batch.labels), batch_size=len(batch.images), sync_dist=True)
        self.collect(batch, to_classifications(logits))
