import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn

from mbdet.tasks import EMA, History


class Line(pl.LightningModule):
    """A model of one weight that falls by 1 a step, with an AP that rises by 0.1 an epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen: list[float] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.log("train_loss", self.weight, on_step=True, on_epoch=True)
        return self.weight

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.seen.append(float(self.weight))
        self.log("AP", 0.1 * (self.current_epoch + 1))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


def fit(folder: Path, callbacks: list[Any], epochs: int, **options: Any) -> Line:
    model = Line()
    trainer = pl.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=callbacks,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(callback, pl.callbacks.ModelCheckpoint) for callback in callbacks),
        num_sanity_val_steps=0,
        **options,
    )
    batches = torch.utils.data.DataLoader(range(3))
    trainer.fit(
        model, batches, batches, ckpt_path="last" if (folder / "last.ckpt").exists() else None, weights_only=True
    )
    return model


def test_average_has_a_rising_decay(tmp_path: Path) -> None:
    model = fit(tmp_path, [EMA(decay=0.5)], epochs=2)
    average = -1.0  # the first step's weight as it is
    expected = []
    for step in range(2, 7):
        average += (1 - min(0.5, step / (9 + step))) * (-step - average)
        if step in (3, 6):
            expected.append(average)
    torch.testing.assert_close(model.seen, [value for value in expected for _ in range(3)])
    torch.testing.assert_close(float(model.weight), expected[-1])


def test_history_is_a_table_with_curves_and_survives_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def callbacks() -> list[Any]:
        checkpoint = pl.callbacks.ModelCheckpoint(tmp_path, save_last=True, save_on_train_epoch_end=True)
        return [History(tmp_path), checkpoint]

    clock = iter([1000.0, 1010.0, 1020.0, 5000.0, 5010.0])  # the start, two epochs; the resume, one epoch
    monkeypatch.setattr("mbdet.tasks.callbacks.time", SimpleNamespace(monotonic=lambda: next(clock)))
    fit(tmp_path, callbacks(), epochs=2)
    (tmp_path / "metrics.csv").unlink()
    fit(tmp_path, callbacks(), epochs=3)
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert [row["step"] for row in rows] == ["3", "6", "9"]
    assert [row["seconds"] for row in rows] == ["10", "20", "30"]
    assert [row["AP"] for row in rows] == ["0.1", "0.2", "0.3"]
    assert [row["train_loss"] for row in rows] == ["-1", "-4", "-7"]
    assert (tmp_path / "curves.png").stat().st_size > 1000
    assert not list(tmp_path.glob("*.tmp"))


def test_an_epoch_without_validation_has_no_old_figures(tmp_path: Path) -> None:
    history = History(tmp_path)
    fit(tmp_path, [history], epochs=3, check_val_every_n_epoch=2)
    assert ["AP" in row for row in history.rows] == [False, True, False]
