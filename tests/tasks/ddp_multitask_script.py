"""Train a multitask network for two steps on two sets, validate it, and write the figures: run by test_ddp.py.

Every step has a batch of each set; at its second step PyTorch raises if a parameter had no gradient in the first.
"""

import json
import sys
from functools import partial
from pathlib import Path

import lightning.pytorch as pl
import torch

from mbdet.backbones import MobileNetV2
from mbdet.data import CocoDataModule, TwoSetsDataModule, VocSegmentationDataModule
from mbdet.data.shapes import CLASS_NAMES
from mbdet.models import LRASPP, MultiTask, SSDLite
from mbdet.ops import FocalSSDLoss
from mbdet.tasks import MultiTaskTask

SIZE = (96, 128)

if __name__ == "__main__":
    root, devices, output = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    pl.seed_everything(0, verbose=False)
    network = MultiTask(
        MobileNetV2(0.35),
        partial(SSDLite, num_classes=6, input_size=SIZE, extra_channels=(32, 16)),
        partial(LRASPP, num_classes=7, input_size=SIZE, channels=16),
    )
    names = ("background", *CLASS_NAMES)
    data = TwoSetsDataModule(
        CocoDataModule(root, SIZE, "train", "val", batch_size=2, num_workers=0, augmentation=None),
        VocSegmentationDataModule(
            f"{root}/VOC", SIZE, class_names=names, batch_size=4, num_workers=0, augmentation=None
        ),
    )
    task = MultiTaskTask(network, FocalSSDLoss(), partial(torch.optim.SGD, lr=0.0))
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        max_epochs=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
    )
    trainer.validate(task, data, verbose=False)  # before batch norms learn, which they do of each process's own images
    assert task.metrics is not None
    untrained = task.metrics.to_json()
    trainer.fit(task, data)
    figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
    if trainer.is_global_zero:
        content = {"steps": trainer.global_step, "untrained": untrained, **figures, **task.metrics.to_json()}
        output.write_text(json.dumps(content))
