"""The page with published models on photographs, beside Python."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from chromium import DONE, Browser
from conftest import Serve
from test_page import read_map

import mbdet
from mbdet.cli import main

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(scope="module")
def export(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    def write(config: str, weights: str) -> Path:
        path = tmp_path_factory.mktemp("models") / f"{config}.onnx"
        options = ["--weights", str(real_data / "weights" / weights), "--images", str(real_data / "coco" / "val2017")]
        assert main(["export", str(CONFIGS / f"{config}.yaml"), *options, "--output", str(path)]) == 0
        return path

    return write


def photographs(real_data: Path, count: int = 4) -> list[Path]:
    return sorted((real_data / "coco" / "val2017").glob("*.jpg"))[:count]


def test_boxes_equal_to_a_pixel(
    browser: Browser, serve: Serve, real_data: Path, export: Callable[[str, str], Path]
) -> None:
    model = export("ssdlite_v2_300_tf_coco", "ssdlite_mobilenet_v2_coco.npz")
    pictures = photographs(real_data, 6)
    steps: list[list[object]] = [["open"], ["wait", "Ready"], ["set", "#score", 0.3]]
    for picture in pictures:
        steps += [["drop", str(picture), "image/jpeg"], ["wait", DONE], ["look"]]
    with serve(model) as url:
        report = browser.drive(url, steps)
    predictor = mbdet.load(model)
    assert report["errors"] == []
    count = 0
    for picture, seen in zip(pictures, (value for value in report["values"] if isinstance(value, dict)), strict=True):
        expected = predictor(picture, 0.3)
        drawn = seen["boxes"][::-1]
        assert [item["label"] for item in drawn] == expected.labels.tolist()
        boxes = np.array([item["box"] for item in drawn]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        np.testing.assert_allclose(boxes, expected.boxes, rtol=0, atol=1)
        np.testing.assert_allclose([item["score"] for item in drawn], expected.scores, rtol=0, atol=0.01)
        count += len(drawn)
    assert count > 10


def test_maps_are_equal(browser: Browser, serve: Serve, real_data: Path, export: Callable[[str, str], Path]) -> None:
    model = export("deeplabv3_v2_tf_coco_voc", "deeplabv3_mnv2_pascal_trainval.npz")
    picture = photographs(real_data)[1]
    steps = [["open"], ["wait", "Ready"], ["drop", str(picture), "image/jpeg"], ["wait", DONE], ["pixels", "#map"]]
    with serve(model) as url:
        report = browser.drive(url, steps)
    predictor = mbdet.load(model)
    expected = predictor(picture).classes
    assert len(np.unique(expected)) > 1
    actual = read_map(report["values"][4], predictor.class_names)
    # Background is left out of the drawing.
    actual = np.where(actual == 255, 0, actual)
    assert (actual == expected).mean() >= 0.999
