"""The guides' contracts are those of files that are exported now; MBDET_UPDATE_DOCS=1 writes them into the guides."""

import os
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mbdet.backbones.base import TF_MEAN, TF_STD, Backbone, FeatureSpec, Normalize
from mbdet.backbones.blocks import ConvBNAct, ConvConfig
from mbdet.cli import main
from mbdet.data.shapes import draw_scene
from mbdet.export.base import Export, Form
from mbdet.export.classification import ClassificationExport
from mbdet.export.detection import DetectionExport
from mbdet.export.format import Order, write_verified
from mbdet.export.formats import find_format
from mbdet.export.multitask import MultiTaskExport
from mbdet.export.segmentation import SegmentationExport
from mbdet.models import LRASPP, Classifier, MultiTask, SSDLite
from mbdet.ops import Postprocess
from mbdet.testing import settle

DOCS = Path(__file__).parents[2] / "docs"
SIZE = (300, 300)
NAMES, SEGMENTS = ("person", "bicycle", "car"), ("background", "road")
FILES = {
    "objects.tflite": ("litert", "android.md"),
    "pixels.pte": ("executorch", "android.md"),
    "both.mlpackage": ("coreml", "ios.md"),
    "classes.mlpackage": ("coreml", "ios.md"),
}


class Tiny(Backbone):
    """Quickly exported, with maps as large as a MobileNet's."""

    def __init__(self) -> None:
        super().__init__()
        self.specs = {"c3_depthwise": FeatureSpec(8, 8), "c4_expand": FeatureSpec(8, 16), "c5": FeatureSpec(16, 32)}
        self.normalize = Normalize(TF_MEAN, TF_STD)
        self.fine = ConvBNAct(3, 8, ConvConfig("same"), 3, 8)
        self.middle = ConvBNAct(8, 8, ConvConfig("same"), 3, 2)
        self.coarse = ConvBNAct(8, 16, ConvConfig("same"), 3, 2)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        fine = self.fine(self.normalize(images))
        middle = self.middle(fine)
        return {"c3_depthwise": fine, "c4_expand": middle, "c5": self.coarse(middle)}


def make_export(kind: str) -> Export[Any]:
    torch.manual_seed(0)
    detector = partial(SSDLite, num_classes=3, input_size=SIZE, extra_channels=(8, 8, 8, 8), class_bias_init=0.0)
    segmenter = partial(LRASPP, num_classes=2, input_size=SIZE, channels=8)
    export: Export[Any]
    match kind:
        case "objects":
            export = DetectionExport(detector(Tiny()), Postprocess())
        case "pixels":
            export = SegmentationExport(segmenter(Tiny()), "fit")
        case "both":
            export = MultiTaskExport(MultiTask(Tiny(), detector, segmenter), Postprocess(), SEGMENTS)
        case _:
            export = ClassificationExport(Classifier(Tiny(), 3, SIZE), 0.875)
    settle(export.network)
    for name, layer in export.network.named_modules():
        if isinstance(layer, torch.nn.Conv2d) and name.endswith(("low_classifier", "high_classifier")):
            torch.nn.init.normal_(layer.weight, std=1.0)
    return export.eval()


def contract_in(guide: Path, name: str) -> re.Match[str]:
    """Find the contract of a file in a guide."""
    found = re.search(rf"<!-- contract of {re.escape(name)} -->\n(.*?)<!-- end -->", guide.read_text(), re.DOTALL)
    assert found is not None, f"{guide.name} has no contract of {name}"
    return found


@pytest.mark.parametrize("name", FILES)
def test_the_contract_is_that_of_a_file_exported_now(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    format_name, guide = FILES[name]
    pytest.importorskip({"litert": "litert_torch", "coreml": "coremltools"}.get(format_name, format_name))
    export = make_export(name.partition(".")[0])
    path = tmp_path / name
    images = np.stack([draw_scene(1, 1, index, *SIZE).image for index in range(2)]).transpose(0, 3, 1, 2)
    names = SEGMENTS if isinstance(export, SegmentationExport) else NAMES
    write_verified(find_format(format_name), Order(export, Form(nms=False), names), export, path, images)
    capsys.readouterr()
    assert main(["contract", str(path)]) == 0
    expected = capsys.readouterr().out
    stated = contract_in(DOCS / guide, name)
    if os.environ.get("MBDET_UPDATE_DOCS") == "1":
        text = (DOCS / guide).read_text()
        (DOCS / guide).write_text(text[: stated.start(1)] + expected + text[stated.end(1) :])
    else:
        assert stated[1] == expected, f"docs/{guide} is out of date: run this test with MBDET_UPDATE_DOCS=1"
