"""What both scripts of test_ddp.py do: validate on one or two processes and write the figures."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import lightning.pytorch as pl
import numpy as np

from mbdet.tasks import Task


def main(task: Task, data: Callable[..., pl.LightningDataModule], input_size: tuple[int, int]) -> None:
    """Validate and, on the first process, write the figures.

    Args:
        task: Its network takes images of the input size.
        data: Makes the data module.
        input_size: Height and width.
    """
    root, devices, output = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    module = data(root, input_size, train_split="train", val_split="val", batch_size=2, num_workers=0)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
    )
    (figures,) = trainer.validate(task, module, verbose=False)
    if trainer.is_global_zero:
        assert task.metrics is not None
        content = task.metrics.to_json()
        assert figures[task.monitor] == np.float32(content[task.monitor])
        output.write_text(json.dumps(content))
