"""Validate a detector on one or two processes and write the figures: run by test_ddp.py.

The detections are the ground truth, moved, rescored and partly left out by numbers that follow from the image's id, so
that the figures are far from 0 and 1 without any training.
"""

import numpy as np
from ddp_script import main

from mbdet.backbones import MobileNetV2
from mbdet.data import CocoDataModule
from mbdet.models import SSDLite
from mbdet.ops import FocalSSDLoss
from mbdet.runtime.types import Detections
from mbdet.tasks import DetectionTask
from mbdet.types import DetectionBatch


class Oracle(DetectionTask):
    """Knows the answers, more or less."""

    def validation_step(self, batch: DetectionBatch, batch_idx: int) -> None:
        """Add what the batch's targets give, in pixels of the original image."""
        assert self._evaluator is not None
        scale = (batch.sizes.flip(1) / batch.sizes.new_tensor([128, 96])).repeat(1, 2)
        for row, image_id in enumerate(batch.image_ids.tolist()):
            rng = np.random.default_rng(image_id)
            boxes = (batch.targets.boxes[row][batch.targets.valid[row]] * scale[row]).numpy().astype(np.float32)
            keep = rng.random(len(boxes)) < 0.8
            order = np.argsort(-rng.random(len(boxes)))[keep[: len(boxes)]]
            boxes = boxes[order] + rng.normal(0, 3, (len(order), 4)).astype(np.float32)
            labels = batch.targets.labels[row].numpy()[order]
            scores = np.sort(rng.random(len(order)).astype(np.float32))[::-1].round(1)  # with ties
            self._evaluator.update(image_id, Detections(boxes, scores, labels))


if __name__ == "__main__":
    network = SSDLite(MobileNetV2(0.35), num_classes=6, input_size=(96, 128))
    oracle = Oracle(network, FocalSSDLoss(), optimizer=None)  # type: ignore[arg-type]  # nothing is trained
    main(oracle, CocoDataModule, (96, 128))
