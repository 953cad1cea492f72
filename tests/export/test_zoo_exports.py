"""Every model of the zoo becomes a verified file, at its own size and without a word for a user to interpret."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mbdet.data.shapes import draw_scene
from mbdet.export.base import Form
from mbdet.export.detection import DetectionExport
from mbdet.export.format import Order, write_verified
from mbdet.export.formats import NAMES, find_format
from mbdet.models import SSDLite, zoo
from mbdet.ops import Postprocess
from mbdet.testing import settle

MODELS = [getattr(zoo, name) for name in dir(zoo) if "ssdlite_mobilenet" in name and not name.startswith("_")]


# What Python itself shows to nobody but developers.
HIDDEN = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)


def check_export(build: Callable[..., SSDLite], name: str, folder: Path) -> str:
    """Export with few classes, and return the warnings that a user would see."""
    target = find_format(name)
    torch.manual_seed(0)
    network = settle(build(num_classes=3))
    with torch.no_grad():
        for head in [*network.box_heads, *network.class_heads]:
            torch.nn.init.normal_(head.pointwise.weight, std=0.05)
            torch.nn.init.zeros_(head.pointwise.bias)
    export = DetectionExport(network, Postprocess())
    images = np.stack([draw_scene(0, 1, 0, *network.input_size).image]).transpose(0, 3, 1, 2)
    order = Order(export, Form(target.nms, target.argmax), ("a", "b", "c"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        parity = write_verified(target, order, export, folder / f"model{target.suffix}", images)
    assert parity is None if name == "coreml" else parity.detections > 20
    return "".join(str(each.message) for each in caught if not issubclass(each.category, HIDDEN))


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(build, marks=[] if build is zoo.ssdlite_mobilenet_v3_small else pytest.mark.slow)
        for build in MODELS
    ],
    ids=lambda build: build.__name__,
)
def test_to_onnx(build: Callable[..., SSDLite], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert check_export(build, "onnx", tmp_path) == ""
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name != "onnx"])
def test_the_smallest_to_all_others(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert check_export(zoo.ssdlite_mobilenet_v3_small, name, tmp_path) == ""
    assert capfd.readouterr() == ("", "")


def test_there_are_models() -> None:
    assert len(MODELS) == 5
