"""One small network of each task, for the tests of formats."""

from functools import partial
from typing import Any

import numpy as np
import torch

from mbdet.backbones import MobileNetV1
from mbdet.data.shapes import draw_scene
from mbdet.export.base import Export, Form
from mbdet.export.classification import ClassificationExport
from mbdet.export.detection import DetectionExport
from mbdet.export.format import Order
from mbdet.export.multitask import MultiTaskExport
from mbdet.export.segmentation import SegmentationExport
from mbdet.models import LRASPP, Classifier, MultiTask, SSDLite
from mbdet.ops import Postprocess
from mbdet.testing import settle

SIZE = (64, 96)
NAMES = ("cat", "dog", "gnu")
KINDS = ("detection", "segmentation", "classification", "multitask")


def scenes(count: int = 3) -> np.ndarray:
    """Return pictures (count, 3, H, W)."""
    return np.stack([draw_scene(1, 1, index, *SIZE).image for index in range(count)]).transpose(0, 3, 1, 2)


def small_export(kind: str) -> Export[Any]:
    """Return what a file of a task is written from, with maps of several classes and scores that spread."""
    torch.manual_seed(0)
    backbone = MobileNetV1(0.25)
    detector = partial(SSDLite, num_classes=3, input_size=SIZE, extra_channels=(32, 16))
    segmenter = partial(LRASPP, num_classes=3, input_size=SIZE, channels=16, pool_size=(3, 3), pool_stride=(2, 2))
    export: Export[Any]
    match kind:
        case "detection":
            export = DetectionExport(detector(backbone), Postprocess())
        case "segmentation":
            export = SegmentationExport(segmenter(backbone), "stretch")
        case "classification":
            export = ClassificationExport(Classifier(backbone, 3, SIZE), 0.875)
        case _:
            export = MultiTaskExport(MultiTask(backbone, detector, segmenter), Postprocess(), NAMES)
    settle(export.network)
    for name, layer in export.network.named_modules():
        if isinstance(layer, torch.nn.Conv2d) and name.endswith(("low_classifier", "high_classifier")):
            torch.nn.init.normal_(layer.weight, std=1.0)
        elif isinstance(layer, torch.nn.Conv2d) and name.endswith(".pointwise"):
            torch.nn.init.normal_(layer.weight, std=0.15)
    return export.eval()


def small_order(kind: str, nms: bool, **options: Any) -> Order:
    """Return the order for a file of a task."""
    return Order(small_export(kind), Form(nms), NAMES, **options)
