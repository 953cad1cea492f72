"""Quantisation-aware training of each kind of network: what is trained, scored and stored, and what is refused."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from quiet_trainer import trainer
from torch.utils._pytree import tree_leaves

from mbdet.backbones import MobileNetV1, MobileNetV2
from mbdet.data import (
    CocoDataModule,
    ImageFolderDataModule,
    ShapesDataModule,
    ShapesMultiTaskDataModule,
    ShapesSegmentationDataModule,
    TwoSetsDataModule,
)
from mbdet.errors import InputError
from mbdet.models import LRASPP, Classifier, DeepLabV3, MultiTask, SSDLite
from mbdet.ops import FocalSSDLoss
from mbdet.tasks import (
    EMA,
    ClassificationTask,
    DetectionTask,
    MultiTaskTask,
    QuantizationAwareTraining,
    SegmentationTask,
    Task,
)
from mbdet.testing import settle

pytest.importorskip("executorch")

SIZE = (64, 64)
SGD = partial(torch.optim.SGD, lr=0.01)
Made = tuple[Task, pl.LightningDataModule]


def detection(shapes: Path, _: Path) -> Made:
    network = SSDLite(MobileNetV1(0.25), 6, SIZE, bn_eps=1e-3)
    data = ShapesDataModule(str(shapes), SIZE, num_train=8, num_val=5, batch_size=4, num_workers=0)
    return DetectionTask(network, FocalSSDLoss(), SGD), data


def segmentation(shapes: Path, _: Path) -> Made:
    backbone = MobileNetV1(0.25, output_stride=16)
    network = DeepLabV3(backbone, 7, SIZE, channels=8, aux="c4")
    data = ShapesSegmentationDataModule(str(shapes), SIZE, num_train=8, num_val=5, batch_size=4, num_workers=0)
    return SegmentationTask(network, SGD), data


def multitask(shapes: Path, _: Path) -> Made:
    network = MultiTask(
        MobileNetV1(0.25),
        partial(SSDLite, num_classes=6, input_size=SIZE, taps=("c4", "c5"), extra_channels=(16,)),
        partial(LRASPP, num_classes=7, input_size=SIZE, channels=8, low_level="c3"),
    )
    data = ShapesMultiTaskDataModule(str(shapes), SIZE, num_train=8, num_val=5, batch_size=4, num_workers=0)
    return MultiTaskTask(network, FocalSSDLoss(), SGD), data


def classification(_: Path, image_folder: Path) -> Made:
    network = Classifier(MobileNetV2(0.35), 3, SIZE)
    return ClassificationTask(network, SGD), ImageFolderDataModule(str(image_folder), SIZE, batch_size=6, num_workers=0)


class Compare(pl.Callback):
    """Keeps how far the task's validation is from the plain network's, in standard deviations."""

    def __init__(self) -> None:
        self.errors: list[float] = []

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        found, plain = (tree_leaves(run(args[1].images)) for run in (pl_module, pl_module.network))
        self.errors += [
            float((one - other).std() / other.std()) for one, other in zip(found, plain, strict=True) if one is not None
        ]


@pytest.mark.parametrize(
    "make",
    [pytest.param(make, marks=pytest.mark.slow) for make in (segmentation, multitask)] + [detection, classification],
)
def test_every_kind_of_network_learns_to_be_rounded(
    make: Callable[[Path, Path], Made], shapes: Path, image_folder: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    task, data = make(shapes, image_folder)
    settle(task.network).train()
    before = {name: value.clone() for name, value in task.state_dict().items()}
    compare = Compare()
    fit = trainer(
        tmp_path,
        max_epochs=1,
        gradient_clip_val=1.0,
        callbacks=[QuantizationAwareTraining(), EMA(decay=0.5), compare],
    )
    fit.fit(task, data)
    assert task.metrics is not None
    # Random networks magnify every rounding, and another network would be at 1.4; the tests of the graph are closer.
    assert all(1e-3 < error < 1 for error in compare.errors), compare.errors
    after = task.state_dict()
    assert after.keys() == before.keys()
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert moved >= {name for name in before if name.startswith("network.backbone") and name.endswith("conv.weight")}
    assert not any("running" in name or "tracked" in name for name in moved)

    fit.save_checkpoint(tmp_path / "last.ckpt")
    stored = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert stored.keys() == before.keys()
    images = torch.zeros(2, 3, *SIZE, dtype=torch.uint8)
    for one, other in zip(tree_leaves(task.eval()(images)), tree_leaves(task.network(images)), strict=True):
        assert one is other or torch.equal(one, other)


def test_a_resumed_training_keeps_what_is_fixed(image_folder: Path, tmp_path: Path) -> None:
    def run(epochs: int, checkpoint: Path | None) -> tuple[Task, dict[str, torch.Tensor], pl.Trainer]:
        torch.manual_seed(0)
        task, data = classification(Path(), image_folder)
        settle(task.network).train()
        callback = QuantizationAwareTraining(observer_epochs=1)
        fit = trainer(tmp_path, max_epochs=epochs, limit_val_batches=0, callbacks=[callback])
        fit.fit(task, data, ckpt_path=checkpoint, weights_only=True)
        return task, callback.state_dict()["ranges"], fit

    first, ranges, fit = run(1, None)
    fit.save_checkpoint(tmp_path / "last.ckpt")
    second, others, _ = run(2, tmp_path / "last.ckpt")
    # Of the activations, which have one range each; those of the weights follow the weights.
    observed = {name: value for name, value in ranges.items() if name.endswith("min_val") and value.numel() == 1}
    assert len(observed) > 30
    assert all(torch.equal(value, others[name]) for name, value in observed.items())
    for (name, value), other in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        fixed = any(word in name for word in ("running", "tracked", "normalize"))
        assert torch.equal(value, other) == fixed, name


def test_what_cannot_be_rounded_is_refused(shapes: Path, image_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="observer_epochs is 0; give 1 or more"):
        QuantizationAwareTraining(observer_epochs=0)
    task, data = classification(shapes, image_folder)
    with pytest.raises(InputError, match=r"set --trainer\.precision 32-true"):
        trainer(tmp_path, precision="bf16-mixed", callbacks=[QuantizationAwareTraining()]).fit(task, data)
    task, _ = multitask(shapes, image_folder)
    masks = ShapesSegmentationDataModule(str(shapes), SIZE, num_train=8, num_val=5, batch_size=4, num_workers=0)
    boxes = CocoDataModule(str(shapes), SIZE, "train", "val", batch_size=4, num_workers=0)
    with pytest.raises(InputError, match="give a data module whose images have boxes and masks"):
        trainer(tmp_path, callbacks=[QuantizationAwareTraining()]).fit(task, TwoSetsDataModule(boxes, masks))
