"""Training and validation of a detector with Lightning."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

import lightning.pytorch as pl
import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from mbdet.errors import InputError
from mbdet.metrics.coco import CocoEvaluator, CocoMetrics
from mbdet.models import Detector
from mbdet.ops import Postprocess, SSDLoss
from mbdet.predictor import to_detections
from mbdet.tasks.schedule import warmup_cosine
from mbdet.types import DetectionBatch, DetectorOutput
from mbdet.weights import load_backbone_weights, load_weights


class DetectionData(Protocol):
    """What the task asks of its data module."""

    class_names: tuple[str, ...]
    input_size: tuple[int, int]  # height and width of the images it yields

    def evaluator(self) -> CocoEvaluator:
        """Return a new evaluation against the validation split."""


class DetectionTask(pl.LightningModule):
    """A detector with its loss, its decoding and its schedule.

    Args:
        network: The detector.
        loss: What it is trained on.
        optimizer: Makes the optimiser from parameters; its weight decay touches convolution kernels only.
        postprocess: Decoding for validation, prediction and export.
        warmup_steps: Optimiser steps over which the learning rate rises linearly to its full value; after them it falls
            along a cosine to zero at the end of the training.
        class_names: The K names in the order of the labels; by default those of the data.
        weights: All weights to start from, a file or a published name.
        backbone_weights: The backbone's weights to start from, likewise.

    Raises:
        InputError: If the decoding does not turn logits into scores the way the loss trains them.
    """

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
    ) -> None:
        super().__init__()
        # Under LightningCLI this stores class paths and plain values; `mbdet.checkpoint` builds the network from them.
        self.save_hyperparameters()
        if loss.scores != postprocess.scores:
            raise InputError(
                f"{type(loss).__name__} trains {loss.scores} scores, but postprocess.scores is {postprocess.scores};"
                f" set postprocess.scores: {loss.scores}"
            )
        self.network = network
        self.loss = loss
        self.optimizer = optimizer
        self.postprocess = postprocess
        self.warmup_steps = warmup_steps
        self.class_names = None if class_names is None else tuple(class_names)
        self.weights = weights
        self.backbone_weights = backbone_weights
        self.metrics: CocoMetrics | None = None
        self._evaluator: CocoEvaluator | None = None

    @property
    def data(self) -> DetectionData:
        """The data module of the running trainer."""
        return cast(DetectionData, self.trainer.datamodule)  # type: ignore[attr-defined]  # set by Trainer.fit

    def setup(self, stage: str) -> None:
        """Check the network against the data and load the weights to start from."""
        check_classes(self.network.num_classes, self.class_names, self.data.class_names)
        if tuple(self.data.input_size) != self.network.input_size:
            raise InputError(
                f"data.input_size is {tuple(self.data.input_size)}, but the network was built for"
                f" {self.network.input_size}; give both the same height and width"
            )
        self.class_names = tuple(self.data.class_names)
        if stage == "fit" and self.trainer.ckpt_path is None:
            self.load_initial_weights()
        self.network.to(memory_format=torch.channels_last)

    def load_initial_weights(self) -> None:
        """Load `weights` and `backbone_weights`, if any."""
        if self.weights is not None:
            load_weights(self.network, self.weights)
        if self.backbone_weights is not None:
            load_backbone_weights(self.network.backbone, self.backbone_weights)

    def forward(self, images: Tensor) -> DetectorOutput:
        """See `Detector.forward`."""
        return cast(DetectorOutput, self.network(images))

    def training_step(self, batch: DetectionBatch, batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        size = len(batch.images)
        if size == 1:
            raise InputError(
                "a training step of one image gives batch norm nothing to compare on the 1x1 maps; give"
                " --data.batch_size 2 or more, and as many training images per device"
            )
        terms = self.loss(self(batch.images), self.network.anchors, batch.targets)
        loss: Tensor = terms.classification + terms.localization
        self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True, batch_size=size)
        self.log("train_loss_class", terms.classification, on_step=False, on_epoch=True, batch_size=size)
        self.log("train_loss_box", terms.localization, on_step=False, on_epoch=True, batch_size=size)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Forget the last validation's detections."""
        if self._evaluator is None:
            self._evaluator = self.data.evaluator()
        self._evaluator.detections.clear()

    def validation_step(self, batch: DetectionBatch, batch_idx: int) -> None:
        """Add one batch to the loss and to the detections to score."""
        assert self._evaluator is not None
        output = self(batch.images)
        terms = self.loss(output, self.network.anchors, batch.targets)
        self.log("val_loss", terms.classification + terms.localization, batch_size=len(batch.images), sync_dist=True)
        padded = self.postprocess(output, self.network.anchors, self.network.input_size)
        found = to_detections(padded, self.network.input_size, batch.sizes.cpu().numpy())
        for image_id, detections in zip(batch.image_ids.tolist(), found, strict=True):
            self._evaluator.update(image_id, detections)

    def on_validation_epoch_end(self) -> None:
        """Score the detections of all processes, each image once."""
        assert self._evaluator is not None
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            gathered: list[Any] = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(gathered, self._evaluator.detections)
            for detections in gathered:
                for image_id, found in detections.items():
                    self._evaluator.update(image_id, found)
        # Every process holds the same detections now and computes the same figures.
        self.metrics = self._evaluator.compute()
        for name in self.metrics.headline:
            self.log(name, getattr(self.metrics, name), prog_bar=name == "AP", sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimiser, without weight decay on batch norms and biases, and a warm-up + cosine schedule."""
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = self.optimizer(
            [
                {"params": [parameter for parameter in parameters if parameter.ndim > 1]},
                {"params": [parameter for parameter in parameters if parameter.ndim <= 1], "weight_decay": 0.0},
            ]
        )
        total_steps = self.trainer.estimated_stepping_batches
        if not math.isfinite(total_steps):
            raise InputError(
                "the learning rate falls until the end of the training; give --trainer.max_epochs or max_steps"
            )
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: warmup_cosine(step, self.warmup_steps, int(total_steps))
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the class names, which may have come from the data, with the weights."""
        checkpoint["class_names"] = list(self.class_names or ())
        # Made without a config, the task was given modules and functions, which no checkpoint should hold.
        options = checkpoint.get("hyper_parameters", {})
        checkpoint["hyper_parameters"] = {name: value for name, value in options.items() if _is_plain(value)}


def check_classes(num_classes: int, configured: Sequence[str] | None, found: Sequence[str]) -> None:
    """Compare the network's classes with those of the data.

    Raises:
        InputError: If their number, or a configured name, differs.
    """
    if num_classes != len(found):
        raise InputError(
            f"num_classes is {num_classes}, but the data has {len(found)} categories ({_abbreviate(found)}); background"
            f" does not count: set --model.network.num_classes {len(found)}"
        )
    if configured is not None and len(configured) != len(found):
        raise InputError(f"class_names has {len(configured)} names, but the data has {len(found)} categories")
    if configured is not None and tuple(configured) != tuple(found):
        index = next(i for i, pair in enumerate(zip(configured, found, strict=True)) if pair[0] != pair[1])
        raise InputError(
            f"class {index} is {configured[index]!r} in the config, but {found[index]!r} in the data; give the names in"
            " ascending order of category id"
        )


def _is_plain(value: object) -> bool:
    """Tell whether a value is made of numbers, strings, lists and mappings alone."""
    if isinstance(value, Mapping):
        return all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _abbreviate(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
