"""What every task shares: initial weights, optimiser, schedule, validation, and what its checkpoints hold."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, ClassVar, Protocol, Self, cast

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from numpy.typing import NDArray
from torch import Tensor, nn

from mbdet.errors import InputError
from mbdet.export.base import Export
from mbdet.metrics.base import Evaluator, Metrics
from mbdet.models import Network
from mbdet.predictor import number_classes
from mbdet.runtime.predictor import Predictor
from mbdet.tasks.schedule import CosineDecay, Schedule, TrainingLength
from mbdet.weights import load_backbone_weights, load_weights


class TaskData(Protocol):
    """What every task asks of its data module, after its `setup`."""

    class_names: tuple[str, ...]
    input_size: tuple[int, int]  # height and width of the images it yields

    def evaluator(self) -> Evaluator[Any]:
        """Return a new evaluation against the validation split."""


class Task(pl.LightningModule, ABC):
    """A network with its loss, its decoding and its schedule.

    Args:
        network: The network.
        optimizer: Makes the optimiser from parameters; its weight decay leaves batch norms and biases alone.
        schedule: How the learning rate goes on after the warm-up; None is a cosine to zero.
        warmup_steps: Optimiser steps over which the learning rate rises linearly to its full value.
        class_names: The K names in the order of the labels; by default those of the data.
        weights: All weights to start from, a file or a published name.
        backbone_weights: The backbone's weights to start from, likewise.
        decay_depthwise: Whether weight decay touches depthwise kernels.

    Attributes:
        monitor: Name of the figure that says which checkpoint is the best: the higher, the better.
        class_hint: What a message about a wrong number of classes should remind of.
        metrics: Those of the last validation.
    """

    monitor: ClassVar[str]
    class_hint: ClassVar[str] = ""

    def __init__(
        self,
        network: Network,
        optimizer: OptimizerCallable,
        schedule: Schedule | None,
        warmup_steps: int,
        class_names: Sequence[str] | None,
        weights: str | None,
        backbone_weights: str | None,
        decay_depthwise: bool,
    ) -> None:
        super().__init__()
        # Under LightningCLI this stores class paths and plain values; `mbdet.checkpoint` builds the network from them.
        self.save_hyperparameters()
        self.network = network
        self.optimizer = optimizer
        self.schedule = schedule or CosineDecay()
        self.warmup_steps = warmup_steps
        self.class_names = None if class_names is None else tuple(class_names)
        self.weights = weights
        self.backbone_weights = backbone_weights
        self.decay_depthwise = decay_depthwise
        self.metrics: Metrics | None = None
        self._evaluator: Evaluator[Any] | None = None
        self._validated_step: int | None = None  # of the training, at which the metrics were taken
        self._rates: list[float] = []  # full learning rate of each parameter group, as configured

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copy the weights, for their average, but not what makes the optimiser.

        Under LightningCLI that holds the parser, and through it the trainer with the processes it has started, which
        cannot be copied.
        """
        for shared in (self.optimizer, self._trainer):
            memo[id(shared)] = shared
        copied = self.__class__.__new__(self.__class__)
        memo[id(self)] = copied
        copied.__dict__.update(deepcopy(self.__dict__, memo))
        return copied

    @abstractmethod
    def predictor(self, device: str | None = None) -> Predictor[Any]:
        """Return the network ready for use, on a device: by default the GPU if there is one."""

    @abstractmethod
    def draw(self, sample: Any, found: Any) -> NDArray[np.uint8]:
        """Draw what was found in a sample of the validation split, and its ground truth, into a copy of its image."""

    def export(self) -> Export[Any]:
        """Return what an exported file of the network computes.

        Raises:
            InputError: If nothing says so for this task.
        """
        raise InputError(f"the {self.network.kind} of a {type(self).__name__} cannot be exported: it has no export()")

    @property
    def data(self) -> TaskData:
        """The data module of the running trainer."""
        return cast(TaskData, self.trainer.datamodule)  # type: ignore[attr-defined]  # set by Trainer.fit

    @property
    def names(self) -> tuple[str, ...]:
        """The class names, made up where nobody gave any."""
        return self.class_names or number_classes(self.network.num_classes)

    def setup(self, stage: str) -> None:
        """Check the network against the data and load the weights to start from."""
        self.check_data(self.data)
        self.class_names = tuple(self.data.class_names)
        self._evaluator = None  # that of the last run may have been for other data
        if stage == "fit" and self.trainer.ckpt_path is None:
            self.load_initial_weights()
        self.network.to(memory_format=torch.channels_last)

    def check_data(self, data: Any) -> None:
        """Compare the network with the data.

        Args:
            data: A data module as `TaskData` describes it.

        Raises:
            InputError: If they do not fit together.
        """
        self.check_heads(data)
        if tuple(data.input_size) != self.network.input_size:
            raise InputError(
                f"data.input_size is {tuple(data.input_size)}, but the network was built for"
                f" {self.network.input_size}; give both the same height and width"
            )

    def check_heads(self, data: Any) -> None:
        """Compare the network's classes with those of the data, for `check_data`."""
        if hasattr(data, "segment_names"):
            raise InputError(
                f"data: a {type(data).__name__} is for a multitask network; give mbdet.tasks.MultiTaskTask, or data"
                " of one task"
            )
        self.check_classes(self.network.num_classes, self.class_names, data.class_names)

    def check_predictor(self, predictor: Predictor[Any], data: Any) -> None:
        """Compare the classes of a predictor of this kind, such as an exported file, with those of the data.

        Raises:
            InputError: If they differ.
        """
        self.check_classes(len(predictor.class_names), predictor.class_names, data.class_names)

    @classmethod
    def check_classes(
        cls,
        num_classes: int,
        configured: Sequence[str] | None,
        found: Sequence[str],
        head: str = "",
        names: str = "class_names",
    ) -> None:
        """Compare a network's classes with those of the data.

        Args:
            num_classes: Of the network.
            configured: Their names, if they were given.
            found: Those of the data.
            head: What stands before `num_classes` within the network, for messages.
            names: Option for the names, likewise.

        Raises:
            InputError: If their number, or a configured name, differs.
        """
        if num_classes != len(found):
            raise InputError(
                f"{head}num_classes is {num_classes}, but the data has {len(found)} categories ({_abbreviate(found)})"
                f"{cls.class_hint}: set --model.network.{head}num_classes {len(found)}"
            )
        if configured is not None and len(configured) != len(found):
            raise InputError(f"{names} has {len(configured)} names, but the data has {len(found)} categories")
        if configured is not None and tuple(configured) != tuple(found):
            index = next(i for i, pair in enumerate(zip(configured, found, strict=True)) if pair[0] != pair[1])
            raise InputError(
                f"class {index} is {configured[index]!r} in the config, but {found[index]!r} in the data; give"
                f" {names} in the order of the data's labels"
            )

    def load_initial_weights(self) -> None:
        """Load `weights` and `backbone_weights`, if any."""
        if self.weights is not None:
            load_weights(self.network, self.weights)
        if self.backbone_weights is not None:
            load_backbone_weights(self.network.backbone, self.backbone_weights)

    def log_loss(self, loss: Tensor, size: int) -> None:
        """Log the training loss of each step, and its mean over each epoch and all processes.

        Args:
            loss: Of one step.
            size: Its number of images.
        """
        # Twice, because a name that is logged for both would be averaged over the processes at every step.
        self.log("train_loss_step", loss, prog_bar=True, batch_size=size)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=size, sync_dist=True)

    def on_validation_epoch_start(self) -> None:
        """Forget what the last validation found."""
        if self._evaluator is None:
            self._evaluator = self.data.evaluator()
        self._evaluator.collected.clear()

    def evidence(self, batch: Any, found: Sequence[Any]) -> Sequence[Any]:
        """Return what the data's evaluator takes of each image: what was found, unless a task says otherwise.

        Args:
            batch: What the data module yields, of B images.
            found: B predictions.
        """
        return found

    def collect(self, batch: Any, found: Sequence[Any]) -> None:
        """Add what was found in one validation batch.

        Args:
            batch: What the data module yields, of B images.
            found: B predictions.
        """
        assert self._evaluator is not None
        for image_id, evidence in zip(batch.image_ids.tolist(), self.evidence(batch, found), strict=True):
            self._evaluator.update(image_id, evidence)

    def on_validation_epoch_end(self) -> None:
        """Score what all processes found, each image once."""
        assert self._evaluator is not None
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            gathered: list[Any] = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(gathered, self._evaluator.collected)
            for collected in gathered:
                self._evaluator.collected.update(collected)
        # Every process holds the same now and computes the same figures.
        self.metrics = self._evaluator.compute()
        self._validated_step = self.global_step
        for name in self.metrics.headline:
            self.log(name, getattr(self.metrics, name), prog_bar=name == self.monitor, sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimiser, without weight decay on batch norms and biases, and the schedule."""
        decayed, others = self._parameter_groups()
        optimizer = self.optimizer([{"params": decayed}, {"params": others, "weight_decay": 0.0}])
        self._rates = [float(group["lr"]) for group in optimizer.param_groups]
        self.trainer.fit_loop.setup_data()  # makes the loaders, which say how long an epoch is
        epoch_steps = math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)
        length = TrainingLength(self.warmup_steps, epoch_steps, self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.schedule.factor(step, length))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_start(self) -> None:
        """Let the configured learning rate win over that of a checkpoint which the training goes on from."""
        optimizer, scheduler = self.optimizers(use_pl_optimizer=False), self.lr_schedulers()
        assert isinstance(optimizer, torch.optim.Optimizer)
        assert isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR)
        if scheduler.base_lrs != self._rates:
            scheduler.base_lrs = list(self._rates)
            for group, rate, factor in zip(optimizer.param_groups, self._rates, scheduler.lr_lambdas, strict=True):
                group["initial_lr"], group["lr"] = rate, rate * factor(scheduler.last_epoch)

    def _parameter_groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Return the trained parameters with weight decay and those without."""
        spared = {
            id(layer.weight)
            for layer in self.modules()
            if isinstance(layer, nn.Conv2d) and 1 < layer.groups == layer.in_channels and not self.decay_depthwise
        }
        decayed: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for parameter in self.parameters():
            if parameter.requires_grad:
                (decayed if parameter.ndim > 1 and id(parameter) not in spared else others).append(parameter)
        return decayed, others

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep with the weights the class names, which may have come from the data, and what the weights scored."""
        checkpoint["class_names"] = list(self.class_names or ())
        if self.metrics is not None and self._validated_step == self.global_step:
            figures = {name: getattr(self.metrics, name) for name in self.metrics.headline}
            checkpoint["metrics"] = {name: float(value) for name, value in figures.items() if value is not None}
        # Made without a config, the task was given modules and functions, which no checkpoint should hold.
        options = checkpoint.get("hyper_parameters", {})
        checkpoint["hyper_parameters"] = {name: value for name, value in options.items() if _is_plain(value)}


def _is_plain(value: object) -> bool:
    """Tell whether a value is made of numbers, strings, lists and mappings alone."""
    if isinstance(value, Mapping):
        return all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _abbreviate(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
