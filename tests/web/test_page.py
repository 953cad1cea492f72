"""The page in a real Chromium, with small networks on drawn scenes."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import DONE, Browser
from conftest import Serve, serving
from PIL import Image

import mbdet
from mbdet.runtime.maps import class_palette
from mbdet.runtime.predictor import as_array
from mbdet.runtime.types import IGNORED
from mbdet.web.build import build

Models = Callable[[str], Path]
SIZE = (203, 331)  # height and width of the scene; no multiple of the network's


def pixels(value: dict[str, Any]) -> np.ndarray:
    shape = (value["height"], value["width"], 4)
    return np.frombuffer(base64.b64decode(value["bytes"]), np.uint8).reshape(shape)


def read_map(value: dict[str, Any], names: tuple[str, ...]) -> np.ndarray:
    """Return the classes in the colours of a canvas, 255 where a pixel has none of them."""
    painted = pixels(value)
    classes = np.full(painted.shape[:2], IGNORED, np.uint8)
    for label, colour in enumerate(class_palette(names)):
        classes[(painted == [*colour, 255]).all(axis=2)] = label
    return classes


def assert_same_boxes(
    drawn: list[dict[str, Any]], expected: Any, score_tolerance: float = 1e-4, box_tolerance: float = 0.05
) -> None:
    """Compare what is drawn, the best last, with Python's objects; boxes in pixels."""
    boxes = np.array([item["box"] for item in drawn[::-1]]).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    assert [item["label"] for item in drawn[::-1]] == expected.labels.tolist()
    np.testing.assert_allclose([item["score"] for item in drawn[::-1]], expected.scores, atol=score_tolerance)
    np.testing.assert_allclose(boxes, expected.boxes, atol=box_tolerance)


def test_boxes_and_map_are_those_of_python(browser: Browser, serve: Serve, models: Models, scene: Path) -> None:
    model = models("multitask")
    with serve(model) as url:
        report = browser.drive(
            url,
            [
                ["open"],
                ["wait", "Ready"],
                ["evaluate", "crossOriginIsolated"],
                ["offline"],
                ["drop", str(scene), "image/png"],
                ["wait", DONE],
                ["look"],
                ["pixels", "#map"],
                ["pixels", "#picture"],
                ["evaluate", "document.getElementById('times').textContent"],
                ["set", "#score", 0.9],
                ["set", "#sure", 0.6],
                ["set", "#opacity", 0.25],
                ["look"],
                ["pixels", "#map"],
                ["evaluate", "getComputedStyle(document.getElementById('map')).opacity"],
                ["evaluate", "document.getElementById('times').textContent"],
            ],
        )
    assert report["errors"] == []
    assert {request.split("/")[2] for request in report["requests"]} == {url.split("/")[2]}
    values = report["values"]
    assert values[2] is True  # threads are to be had
    predictor = mbdet.load(model)
    expected = predictor.predict_one(scene)
    names = predictor.segment_names
    np.testing.assert_array_equal(pixels(values[8])[:, :, :3], np.array(Image.open(scene)))

    seen = values[6]
    least = predictor(scene, 0.5)
    assert len(least.detections.boxes) > 3
    assert_same_boxes(seen["boxes"], least.detections)
    classes = read_map(values[7], names)
    assert len(np.unique(expected.segmentation.classes)) > 1
    assert (classes == expected.segmentation.classes).mean() >= 0.999
    (largest, *_) = predictor.record(expected)["classes"]
    assert f"{largest['name']} {largest['share']:.0%}" in seen["legends"]
    assert not seen["wrong"]

    # The sliders show other parts of the same result: it was not computed again.
    moved = values[13]
    assert_same_boxes(moved["boxes"], predictor(scene, 0.9).detections)
    assert len(moved["boxes"]) < len(seen["boxes"])
    unsure = expected.segmentation.scores < 0.6
    assert 0.001 < unsure.mean() < 0.999
    kept = read_map(values[14], names)
    assert (kept == np.where(unsure, IGNORED, expected.segmentation.classes)).mean() >= 0.999
    rows, columns = np.indices(SIZE)
    hatched = (pixels(values[14]) == 255).all(axis=2)
    np.testing.assert_array_equal(hatched, (kept == IGNORED) & ((rows + columns) % 8 == 0))
    assert values[15] == "0.25"
    assert values[9] == values[16]
    assert "ms network" in values[9]


@pytest.mark.parametrize("kind", ["detection", "segmentation", "fit"])
def test_each_task_alone(browser: Browser, serve: Serve, models: Models, scene: Path, kind: str) -> None:
    model = models(kind)
    steps = [["open"], ["wait", "Ready"], ["choose", str(scene)], ["wait", DONE], ["look"], ["pixels", "#map"]]
    with serve(model) as url:
        report = browser.drive(url, steps)
    assert report["errors"] == []
    predictor = mbdet.load(model)
    if kind == "detection":
        expected = predictor(scene)
        assert len(expected.boxes) > 3
        assert_same_boxes(report["values"][4]["boxes"], expected)
    else:
        classes = predictor(scene).classes
        assert len(np.unique(classes)) > 1
        assert (read_map(report["values"][5], predictor.class_names) == classes).mean() >= 0.999


def test_photographs_are_upright(browser: Browser, serve: Serve, models: Models, scene: Path, tmp_path: Path) -> None:
    steps: list[list[object]] = [["open"], ["wait", "Ready"]]
    photographs = [tmp_path / f"{orientation}.jpg" for orientation in (1, 3, 6)]
    for photograph in photographs:
        exif = Image.Exif()
        exif[0x0112] = int(photograph.stem)
        Image.open(scene).save(photograph, quality=95, exif=exif)
        steps += [["drop", str(photograph), "image/jpeg"], ["wait", DONE], ["pixels", "#picture"]]
    with serve(models("detection")) as url:
        report = browser.drive(url, steps)
    seen = [pixels(value)[:, :, :3] for value in report["values"] if isinstance(value, dict)]
    for photograph, actual in zip(photographs, seen, strict=True):
        expected = as_array(photograph)
        assert actual.shape == expected.shape
        assert np.abs(actual.astype(int) - expected).mean() < 1  # decoders of JPEG may round otherwise


def test_what_goes_wrong_is_said_on_the_page(
    browser: Browser, serve: Serve, models: Models, scene: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "broken.png").write_bytes(scene.read_bytes()[:200])
    (tmp_path / "broken.webm").write_bytes(b"no video")
    with serve(models("detection")) as url:
        report = browser.drive(
            url,
            [
                ["open"],
                ["wait", "Ready"],
                ["drop", str(tmp_path / "notes.txt"), "text/plain"],
                ["wait", r"notes\.txt is not a picture or video that this browser reads; use JPEG or PNG"],
                ["look"],
                ["drop", str(tmp_path / "broken.png"), "image/png"],
                ["wait", r"broken\.png is not a picture"],
                ["drop", str(tmp_path / "broken.webm"), "video/webm"],
                ["wait", r"broken\.webm cannot be played by this browser"],
                ["click", "#camera"],
                ["wait", "There is no camera on this device|The camera is not allowed"],
                ["look"],
                ["drop", str(scene), "image/png"],
                ["wait", DONE],
                ["look"],
            ],
        )
    assert [value["wrong"] for value in report["values"] if isinstance(value, dict)] == [True, True, False]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.onnx", b"no model", r"The model cannot be loaded \(.+\)"),
        ("model.onnx", None, r"The model cannot be loaded \(model\.onnx: 404"),
        ("engine/wasm.js", None, r"The model cannot be loaded \(.+\)"),
        ("model.json", b"{", r"model's description \(model\.json\) cannot be read; build the page again"),
    ],
)
def test_a_page_that_is_damaged_says_so(
    browser: Browser, serve: Serve, models: Models, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    build(models("detection"), tmp_path)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    with serving(tmp_path) as url:
        report = browser.drive(url, [["open"], ["wait", message], ["look"]])
    assert report["values"][2]["wrong"]
