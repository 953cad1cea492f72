"""What happens around a training: averaged weights, and a record that people and programs can read."""

import csv
import math
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, WeightAveraging
from torch import Tensor

from mbdet.errors import InputError
from mbdet.report.curves import plot_history
from mbdet.runtime.files import write_atomically

Row = dict[str, float]


class EMA(WeightAveraging):
    """Exponential moving average of the weights, used for validation, in checkpoints and at the end.

    Args:
        decay: Weight of the past. It rises to this value as (1 + n) / (10 + n) over the first n steps, as TensorFlow's
            does, so that a short training is not held back by its random start.
    """

    def __init__(self, decay: float = 0.9998) -> None:
        def average(averaged: list[Tensor], current: list[Tensor], num_averaged: Tensor) -> None:
            if not averaged[0].is_floating_point():  # counters of batch norms
                torch._foreach_copy_(averaged, current)
                return
            # All tensors at once, and the weight as a tensor: a number would wait for the GPU at every step.
            difference = torch._foreach_sub(current, averaged)
            torch._foreach_mul_(difference, 1 - ((1 + num_averaged) / (10 + num_averaged)).clamp(max=decay))
            torch._foreach_add_(averaged, difference)

        super().__init__(multi_avg_fn=average)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Follow the model to its device: Lightning makes the average before it moves the model there."""
        assert self._average_model is not None
        self._average_model.to(pl_module.device)
        self._average_model.n_averaged = self._average_model.n_averaged.cpu()  # is asked for at every step


class History(Callback):
    """One row per epoch, as a table (`metrics.csv`) and as curves (`curves.png`), also after a resume.

    `seconds` is the time since the training began, validations included and pauses before a resume not.

    The rows travel in the checkpoints, so a resumed run continues the table where its checkpoint was made.

    Args:
        folder: Where both files are written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[Row] = []
        self._validation: Row = {}
        self._started = 0.0

    @property
    def table(self) -> Path:
        """The CSV file."""
        return self.folder / "metrics.csv"

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock, on from where the rows of a resumed run end."""
        self._started = time.monotonic() - (self.rows[-1].get("seconds", 0.0) if self.rows else 0.0)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember this validation for the epoch's row."""
        if not trainer.sanity_checking:
            self._validation = _numbers(trainer, lambda name: not name.startswith("train"))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the epoch's row and write both files."""
        row: Row = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        row["seconds"] = round(time.monotonic() - self._started, 1)
        row["lr"] = trainer.optimizers[0].param_groups[0]["lr"]
        row |= _numbers(trainer, lambda name: name.startswith("train") and not name.endswith("_step"))
        row |= self._validation
        self._validation = {}
        if not math.isfinite(row.get("train_loss", 0.0)):
            raise InputError(
                f"the training loss is {row['train_loss']} in epoch {trainer.current_epoch}; lower"
                " --model.optimizer.lr, and --resume from the epoch before, or lengthen --model.warmup_steps and start"
                " again"
            )
        self.rows.append(row)
        if trainer.is_global_zero:
            self.write()

    def write(self) -> None:
        """Write the table and the curves."""
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        with write_atomically(self.table) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in self.rows)
        plot_history(self.rows, self.folder / "curves.png")

    def state_dict(self) -> dict[str, Any]:
        """Return the rows, for the checkpoint."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the rows from a checkpoint."""
        self.rows = list(state_dict["rows"])


def _numbers(trainer: pl.Trainer, wanted: Any) -> Row:
    metrics = trainer.callback_metrics
    # The learning rate is in the row already; LearningRateMonitor adds it once more for each parameter group.
    return {
        name.removesuffix("_epoch"): float(value)
        for name, value in metrics.items()
        if wanted(name) and not name.startswith("lr-")
    }
