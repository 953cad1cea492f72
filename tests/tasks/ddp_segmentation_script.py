"""Validate a segmenter on one or two processes and write the figures: run by test_ddp.py.

The classes are the truth with noise that follows from the image's id, so that the figures are far from 0 and 1 without
any training.
"""

from functools import partial

import numpy as np
from ddp_script import main

from mbdet.backbones import MobileNetV2
from mbdet.data import VocSegmentationDataModule
from mbdet.data.shapes import CLASS_NAMES
from mbdet.models import LRASPP
from mbdet.runtime.types import Segmentation
from mbdet.tasks import SegmentationTask
from mbdet.types import SegmentationBatch


class Oracle(SegmentationTask):
    """Knows the answers, more or less."""

    def validation_step(self, batch: SegmentationBatch, batch_idx: int) -> None:
        """Add what the batch's original masks give."""
        found = []
        for number, truth in zip(batch.image_ids.tolist(), batch.original_masks, strict=True):
            rng = np.random.default_rng(number)
            noise = rng.integers(0, 7, truth.shape, dtype=np.uint8)
            found.append(Segmentation(np.where((rng.random(truth.shape) < 0.3) | (truth > 6), noise, truth), None))
        self.collect(batch, found)


if __name__ == "__main__":
    network = LRASPP(MobileNetV2(0.35), 7, (96, 128))
    data = partial(VocSegmentationDataModule, class_names=("background", *CLASS_NAMES))
    main(Oracle(network, optimizer=None), data, (96, 128))  # type: ignore[arg-type]  # not trained
