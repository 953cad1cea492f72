"""The trainer of this folder's tests: on the CPU, and leaves nothing behind."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl


def trainer(folder: Path, **options: Any) -> pl.Trainer:
    return pl.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        **options,
    )
