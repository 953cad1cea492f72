"""The picture of the published accuracies, read back from the SVG, whose comments are the texts in the picture."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mbdet.backbones import MobileNetV1
from mbdet.cost import count_madds
from mbdet.errors import InputError
from mbdet.report.cost_plot import Mark, plot_published
from mbdet.report.published import COCO, IMAGENET


@pytest.mark.parametrize(
    ("mark", "label"),
    [
        (Mark("mine", 788_830_144, "COCO"), "mine: 0.79 B"),
        (Mark("mine", 20_000_000_000, "COCO"), "mine: 20.00 B"),
        (Mark("mine", 568_740_352, "ImageNet"), "mine: 569 M"),
        (Mark("mine", 1_000_000, "ImageNet"), "mine: 1 M"),
    ],
)
def test_every_label_is_in_the_picture(mark: Mark, label: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / "cost.svg"
    plot_published(mark, path)
    assert [file.name for file in path.parent.iterdir()] == ["cost.svg"]
    texts = set(re.findall(r"<!-- (.*?) -->", path.read_text()))
    assert texts >= {label, "accuracy unknown", *(detector.name for detector in COCO)}
    assert texts >= {family.name.removeprefix("MobileNet") for family in IMAGENET}


def test_png(tmp_path: Path) -> None:
    plot_published(Mark("mine", 10**9, "COCO"), tmp_path / "cost.png")
    with Image.open(tmp_path / "cost.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 5


def test_other_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cost\.doc: not a name for a picture"):
        plot_published(Mark("mine", 10**9, "COCO"), tmp_path / "cost.doc")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("width_mult", [1.0, 0.75, 0.5, 0.25])
def test_multiply_adds_of_v1_are_those_counted(width_mult: float) -> None:
    models = [model for model in IMAGENET[0].models if model.width_mult == width_mult]
    assert [model.size for model in models] == [224, 192, 160, 128]
    with torch.device("meta"):
        network = MobileNetV1(width_mult)
        for model in models:
            madds = count_madds(network, torch.zeros(1, 3, model.size, model.size)) + 1000 * int(1024 * width_mult)
            assert madds / 1e6 == pytest.approx(model.madds, abs=0.005)


def test_more_multiply_adds_never_cost_accuracy_within_a_width() -> None:
    """A slip of the hand in the table would most likely break the order."""
    for family in IMAGENET:
        for width in {model.width_mult for model in family.models}:
            models = sorted(model for model in family.models if model.width_mult == width)
            assert [m.top1 for m in models] == sorted(m.top1 for m in models)
            assert [m.madds for m in models] == sorted(m.madds for m in models)
