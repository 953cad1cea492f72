"""Quantisation-aware training: a fine-tuning in which the network feels the rounding of int8."""

from typing import TYPE_CHECKING, Any, cast

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from mbdet.data import TwoSetsDataModule
from mbdet.errors import InputError
from mbdet.tasks.base import Task

if TYPE_CHECKING:
    from mbdet.tasks.fake_quantized import FakeQuantized


class QuantizationAwareTraining(Callback):
    """Round weights and activations to int8 in every pass of a training, forward only (Jacob et al. 2018, section 3).

    Give it to the fine-tuning of a trained network, at a low learning rate. What is trained, averaged and stored are
    the network's own float weights, which learn to bear the rounding: the checkpoint is one like any other, and every
    format can be quantised from it. Validations round too.

    Batch norms are folded into their convolutions before these are rounded, as in a file, and keep their statistics.
    The rounding is that of ExecuTorch files, which XNNPACK computes.

    Args:
        observer_epochs: After so many epochs the ranges of the activations stay as they are (by default as in
            torchvision's train_quantization.py); None never fixes them.

    Raises:
        InputError: If that is less than 1.
    """

    def __init__(self, observer_epochs: int | None = 4) -> None:
        if observer_epochs is not None and observer_epochs < 1:
            raise InputError(f"observer_epochs is {observer_epochs}; give 1 or more, or null")
        self.observer_epochs = observer_epochs
        self._first_epoch: int | None = None  # that this callback has seen
        self._stored: dict[str, Tensor] = {}  # ranges from a checkpoint
        self._graphs: FakeQuantized | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Capture the network and let the task's passes go through what was captured.

        Raises:
            InputError: If a package is missing, or the training is one that cannot be captured.
        """
        from mbdet.tasks.fake_quantized import FakeQuantized  # which needs packages that other trainings do not

        task = cast(Task, pl_module)
        if trainer.precision != "32-true":
            raise InputError(
                f"trainer.precision is {trainer.precision}; quantisation-aware training rounds full precision: set"
                " --trainer.precision 32-true"
            )
        if any(isinstance(layer, nn.SyncBatchNorm) for layer in task.modules()):
            raise InputError("quantisation-aware training knows no synchronised batch norm: leave sync_batchnorm out")
        if isinstance(task.data, TwoSetsDataModule):
            raise InputError(
                "quantisation-aware training runs both heads on every image: give a data module whose images have boxes"
                " and masks, such as mbdet.data.VocMultiTaskDataModule"
            )
        self._graphs = FakeQuantized(task.network)
        if trainer.ckpt_path is None:
            self._first_epoch, self._stored = None, {}
        if self._stored:
            self._graphs.load_ranges(self._stored)

        def forward(images: Tensor) -> Any:
            assert self._graphs is not None
            if trainer.sanity_checking:  # nothing has been observed yet
                return task.network(images)
            return self._graphs(images, task.training)

        # On the task rather than the network, and no module: so no state dict, optimiser or average sees it.
        task.forward = forward  # type: ignore[method-assign]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Fix what has been learnt for long enough."""
        assert self._graphs is not None
        if self._first_epoch is None:
            self._first_epoch = trainer.current_epoch
        epoch = trainer.current_epoch - self._first_epoch
        self._graphs.observing = self.observer_epochs is None or epoch < self.observer_epochs

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let the passes go through the network again."""
        pl_module.__dict__.pop("forward", None)
        self._stored = {} if self._graphs is None else self._graphs.ranges()
        self._graphs = None

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """See `on_fit_end`."""
        self.on_fit_end(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return the ranges, for the checkpoint."""
        ranges = self._stored if self._graphs is None else self._graphs.ranges()
        return {"first_epoch": self._first_epoch, "ranges": ranges}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the ranges from a checkpoint."""
        self._first_epoch, self._stored = state_dict["first_epoch"], state_dict["ranges"]
