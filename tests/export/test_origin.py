import json
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch

from mbdet.backbones import MobileNetV2
from mbdet.errors import InputError
from mbdet.export.base import Form
from mbdet.export.detection import DetectionExport
from mbdet.export.format import Order
from mbdet.export.formats import NAMES, find_format
from mbdet.export.onnx import OnnxFormat
from mbdet.export.origin import note_origin, origin_of, why_not_reusable
from mbdet.models import SSDLite
from mbdet.ops import Postprocess
from mbdet.runtime.model_file import description_beside

FORMAT = OnnxFormat()
MODEL = {"init_args": {"postprocess": {"max_candidates": 1000}}}
IMAGES = np.zeros((1, 3, 64, 96), np.uint8)
OTHER_MODEL = {"init_args": {"postprocess": {"max_candidates": 2000}}}


@pytest.fixture
def order() -> Order:
    torch.manual_seed(0)
    export = DetectionExport(SSDLite(MobileNetV2(0.35), 2, (64, 96)), Postprocess())
    pictures = np.zeros((2, 3, 64, 96), np.uint8)
    return Order(export.eval(), Form(), ("cat", "dog"), "int8", calibration=pictures, float_layers=("extras",))


@pytest.fixture
def file(order: Order, tmp_path: Path) -> Path:
    path = tmp_path / "m.any"
    path.write_bytes(b"model")
    description = order.describe() | {"parity": None, "bytes": 5}
    description_beside(path).write_text(json.dumps(description))
    return path


def change_a_weight(order: Order) -> Order:
    with torch.no_grad():
        next(order.export.parameters()).view(-1)[0] += 1
    return order


def test_a_file_is_reusable_only_once_its_origin_is_noted(file: Path, order: Order) -> None:
    assert (
        why_not_reusable(file, origin_of(FORMAT, order, MODEL, IMAGES))
        == "its description does not say what it was made from"
    )
    note_origin(file, origin_of(FORMAT, order, MODEL, IMAGES))
    assert why_not_reusable(file, origin_of(FORMAT, order, MODEL, IMAGES)) is None
    assert json.loads(description_beside(file).read_text())["class_names"] == ["cat", "dog"]


@pytest.mark.parametrize(
    ("change", "model", "names"),
    [
        (lambda order: order, OTHER_MODEL, "model in the config"),
        (change_a_weight, MODEL, "weights"),
        (lambda order: replace(order, class_names=("dog", "cat")), MODEL, "class names"),
        (lambda order: replace(order, calibration=order.calibration + 1), MODEL, "calibration pictures"),
        (lambda order: replace(order, calibration=order.calibration[:1]), MODEL, "calibration pictures"),
        (lambda order: replace(order, float_layers=()), MODEL, "layers left in float"),
        (lambda order: replace(order, precision="fp32"), MODEL, "precision, calibration pictures"),
    ],
)
def test_what_a_file_is_made_from(
    file: Path, order: Order, change: Callable[[Order], Order], model: dict[str, object], names: str
) -> None:
    note_origin(file, origin_of(FORMAT, order, MODEL, IMAGES))
    assert why_not_reusable(file, origin_of(FORMAT, change(order), model, IMAGES)) == f"it was made with other {names}"


def test_what_a_file_is_compared_on(file: Path, order: Order) -> None:
    note_origin(file, origin_of(FORMAT, order, MODEL, IMAGES))
    assert (
        why_not_reusable(file, origin_of(FORMAT, order, MODEL, IMAGES + 1))
        == "it was made with other comparison pictures"
    )


def test_what_a_file_is_written_with(file: Path, order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    note_origin(file, origin_of(FORMAT, order, MODEL, IMAGES))
    installed = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "99" if name == "onnxscript" else installed(name))
    assert (
        why_not_reusable(file, origin_of(FORMAT, order, MODEL, IMAGES))
        == "it was made with other version of onnxscript"
    )
    monkeypatch.setattr(OnnxFormat, "libraries", ("onnx-of-another-name",))
    assert origin_of(FORMAT, order, MODEL, IMAGES)["version of onnx-of-another-name"] is None


@pytest.mark.parametrize("name", NAMES)
def test_libraries_of_a_format(name: str) -> None:
    try:
        libraries = find_format(name).libraries
    except InputError as error:
        pytest.skip(str(error))  # the format's extra is not installed
    assert libraries
    assert all(metadata.version(library) for library in libraries)


def test_pictures_matter_to_int8_alone(order: Order) -> None:
    full = replace(order, precision="fp32")
    assert origin_of(FORMAT, full, MODEL, IMAGES) == origin_of(FORMAT, replace(full, calibration=None), MODEL, IMAGES)


@pytest.mark.parametrize("missing", ["parity", "bytes", None])
def test_a_damaged_description(file: Path, order: Order, missing: str | None) -> None:
    origin = origin_of(FORMAT, order, MODEL, IMAGES)
    note_origin(file, origin)
    beside = description_beside(file)
    description = json.loads(beside.read_text())
    if missing:
        del description[missing]
    beside.write_text(json.dumps(description) if missing else "{")
    reason = why_not_reusable(file, origin)
    assert reason is not None
    assert ("does not say what it was made from" if missing else "m.any.json: cannot be read") in reason
