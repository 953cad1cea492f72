"""Validate a classifier on one or two processes and write the figures: run by test_ddp.py.

The logits are the truth and noise that follows from the image's id, so that the figures are far from 0 and 1 without
any training.
"""

import torch
from ddp_script import main

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
        self.collect(batch, to_classifications(logits))


if __name__ == "__main__":
    network = Classifier(MobileNetV2(0.35), 3, (32, 32))
    main(Oracle(network, optimizer=None), ImageFolderDataModule, (32, 32))  # type: ignore[arg-type]  # not trained
