"""What all tasks share, tried on the smallest classifier."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from quiet_trainer import trainer

from mbdet.backbones import MobileNetV2
from mbdet.data import ImageFolderDataModule
from mbdet.models import Classifier, SSDLite
from mbdet.ops import FocalSSDLoss
from mbdet.tasks import ClassificationTask, DetectionTask, ExponentialDecay, Task
from mbdet.types import ClassificationBatch, DetectionBatch, DetectionTargets


def make(lr: float = 0.1) -> ClassificationTask:
    network = Classifier(MobileNetV2(0.35), 3, (64, 64))
    schedule = ExponentialDecay(0.5, 1.0)
    return ClassificationTask(network, lambda parameters: torch.optim.SGD(parameters, lr=lr), schedule=schedule)


def data(root: Path, val_split: str = "val") -> ImageFolderDataModule:
    return ImageFolderDataModule(str(root), (64, 64), val_split=val_split, batch_size=2, num_workers=0)


def test_a_task_is_scored_on_the_data_at_hand(image_folder: Path, tmp_path: Path) -> None:
    model = make()
    for split in ("val", "train"):
        trainer(tmp_path).validate(model, data(image_folder, split), verbose=False)
        assert model.metrics is not None
        images = [values["images"] for values in model.metrics.to_json()["per_class"].values()]
        assert sum(images) == len(list((image_folder / split).rglob("*.png")))


@pytest.mark.parametrize("lr", [0.1, 0.02])
def test_a_resumed_training_takes_the_learning_rate_of_its_config(
    image_folder: Path, tmp_path: Path, lr: float
) -> None:
    first = trainer(tmp_path, max_epochs=1, limit_val_batches=0)
    first.fit(make(0.1), data(image_folder))
    first.save_checkpoint(tmp_path / "last.ckpt")
    rates: list[float] = []

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            rates.extend(group["lr"] for group in trainer.optimizers[0].param_groups)

    second = trainer(tmp_path, max_epochs=2, limit_val_batches=0, callbacks=[Watch()])
    second.fit(make(lr), data(image_folder), ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert rates == pytest.approx([lr * 0.5] * len(rates))
    assert len(rates) >= 2
    assert second.optimizers[0].param_groups[0]["lr"] == pytest.approx(lr * 0.25)


@pytest.mark.parametrize("kind", ["classifier", "detector"])
def test_losses_of_an_epoch_are_those_of_all_processes(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model: Task
    batch: ClassificationBatch | DetectionBatch
    images, ids = torch.zeros(2, 3, 64, 64, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)
    if kind == "classifier":
        model, batch = make(), ClassificationBatch(images, ids, ids, ids[:, None])
    else:
        network = SSDLite(MobileNetV2(0.35), 3, (64, 64))
        model = DetectionTask(network, FocalSSDLoss(), lambda parameters: torch.optim.SGD(parameters, lr=0.1))
        nothing = torch.zeros(2, 1)
        targets = DetectionTargets(nothing[..., None].expand(2, 1, 4), nothing.long(), nothing.bool())
        batch = DetectionBatch(images, targets, ids, ids[:, None])
    synced: dict[str, bool] = {}

    def log(name: str, value: torch.Tensor, on_epoch: bool = False, sync_dist: bool = False, **_: Any) -> None:
        if on_epoch:
            synced[name] = sync_dist

    monkeypatch.setattr(model, "log", log)
    model.training_step(batch, 0)
    assert "train_loss" in synced
    assert all(synced.values())
