"""Validate a classifier on one or two processes and write the figures: run by test_ddp.py.

The logits are the truth and noise that follows from the image's id, so that the figures are far from 0 and 1 without
any training.
"""

import json
import sys
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch

from mbdet.backbones import MobileNetV2
from mbdet.data import ImageFolderDataModule
from mbdet.models import Classifier
from mbdet.predictor import to_classifications
from mbdet.tasks import ClassificationTask
from mbdet.types import ClassificationBatch


class Oracle(ClassificationTask):
    """Knows the answers, more or less."""

    def validation_step(self, batch: ClassificationBatch, batch_idx: int) -> None:
        """Add what the batch's labels give."""
        noise = [torch.randn(3, generator=torch.Generator().manual_seed(number)) for number in batch.image_ids.tolist()]
        logits = 2 * torch.stack(noise) + torch.nn.functional.one_hot(batch.labels, 3)
        self.collect(batch.image_ids, to_classifications(logits))


def main(root: str, devices: int, output: Path) -> None:
    """Validate and, on the first process, write the figures."""
    task = Oracle(Classifier(MobileNetV2(0.35), 3, (32, 32)), optimizer=None)  # type: ignore[arg-type]  # not trained
    data = ImageFolderDataModule(root, (32, 32), batch_size=2, num_workers=0)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
    )
    (figures,) = trainer.validate(task, data, verbose=False)
    if trainer.is_global_zero:
        assert task.metrics is not None
        content = task.metrics.to_json()
        assert figures["top1"] == np.float32(content["top1"])
        output.write_text(json.dumps(content))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
