"""What is refused before anything is written, and that nothing unverified stays."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_exports import scenes as small_scenes
from small_exports import small_export
from test_onnx import NAMES, make_network, scenes

from mbdet.errors import InputError
from mbdet.export.base import Form
from mbdet.export.detection import DetectionExport
from mbdet.export.format import Format, Order, check_order, is_kept, write_verified
from mbdet.export.formats import find_format
from mbdet.ops import Postprocess
from mbdet.runtime.model_file import ModelFile, Values, read_description

Change = Callable[[Values], Values]


def mirror(found: Values) -> Values:
    return {name: values[..., ::-1] for name, values in found.items()}


def shift(name: str, by: float) -> Change:
    return lambda found: {**found, name: (found[name] + by).astype(found[name].dtype)}


class PytorchFile(ModelFile):
    """Gives what the network gives, changed on demand."""

    def __init__(self, path: Path, description: dict[str, Any], order: Order, change: Change) -> None:
        super().__init__(path, description)
        self.order, self.change = order, change

    def compute(self, images: np.ndarray) -> Values:
        with torch.no_grad():
            found = dict(zip(self.order.outputs, self.order.module(torch.from_numpy(images)), strict=True))
        return self.change({name: values.numpy() for name, values in found.items()})


class Folder(Format):
    """A format of two files and a folder, without suppression."""

    name, suffix, precisions = "Folder", ".folder", ("fp32",)

    def __init__(self, change: Change = dict) -> None:
        self.change = change

    def write(self, order: Order, path: Path) -> dict[str, Any]:
        path.mkdir()
        (path / "weights").write_bytes(b"12345")
        path.with_suffix(".bin").write_bytes(b"678")
        self.order = order
        return {"undelegated": {"sigmoid": 2}}

    def open(self, path: Path) -> PytorchFile:
        return PytorchFile(path, self.order.describe(), self.order, self.change)


@pytest.fixture(scope="module")
def order() -> Order:
    export = DetectionExport(make_network().eval(), Postprocess())
    return Order(export, Form(nms=False), NAMES, metrics={"AP": 0.5})


def test_all_that_belongs_to_a_file_takes_its_place_at_once(order: Order, tmp_path: Path) -> None:
    path = tmp_path / "new" / "m.folder"
    for _ in range(2):  # the second over the first
        parity = write_verified(Folder(), order, order.export, path, scenes(2))
        assert {file.name for file in path.parent.iterdir()} == {"m.folder", "m.bin", "m.folder.json"}
    assert parity.detections > 10
    description = read_description(path)
    assert description["bytes"] == 8
    assert description["undelegated"] == {"sigmoid": 2}
    assert description["metrics"] == {"AP": 0.5}
    assert description["decoding"]["iou_threshold"] == 0.6
    assert description["parity"] == {"images": 2, "share": 1.0, "agrees_on": str(parity)}
    assert list(description["output"]) == ["anchor_boxes", "class_scores"]
    assert (description["class_names"], description["input"]["color"]) == (list(NAMES), "RGB")
    before = json.dumps(description)
    with pytest.raises(InputError, match="differs from the checkpoint in output 'boxes'"):
        write_verified(Folder(shift("anchor_boxes", 3)), order, order.export, path, scenes(2))
    assert json.dumps(read_description(path)) == before
    assert len(list(path.parent.iterdir())) == 3


@pytest.mark.parametrize(
    ("change", "output"),
    [
        (shift("anchor_boxes", 3), "boxes"),
        (shift("class_scores", -0.001), "scores"),
        (shift("anchor_boxes", np.nan), "counts"),
        (lambda found: {**found, "class_scores": found["class_scores"][..., ::-1]}, "labels"),
    ],
)
def test_a_difference_of_what_is_finished_names_what_it_is_made_from(
    order: Order, tmp_path: Path, change: Change, output: str
) -> None:
    message = f"in output '{output}', which is made from 'anchor_boxes' and 'class_scores': a detection of class"
    with pytest.raises(InputError, match=message):
        write_verified(Folder(change), order, order.export, tmp_path / "m.folder", scenes(2))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("form", "made"),
    [
        (Form(nms=False, argmax=False), "'classes', which is made from 'logits': row"),
        (Form(nms=False, argmax=True), "'classes': row"),
    ],
)
def test_a_difference_of_a_map_names_what_the_file_has(tmp_path: Path, form: Form, made: str) -> None:
    export = small_export("segmentation")
    order = Order(export, form, NAMES)
    with pytest.raises(InputError, match=f"in output {made}"):
        write_verified(Folder(mirror), order, export, tmp_path / "m.folder", small_scenes(2))


class Misdescribed(Folder):
    """A format whose files give other boxes than their description says."""

    def __init__(self, stated: dict[str, Any]) -> None:
        super().__init__()
        self.stated = stated

    def write(self, order: Order, path: Path) -> dict[str, Any]:
        types = order.output_types
        return super().write(order, path) | {
            "output_types": types | {"anchor_boxes": types["anchor_boxes"] | self.stated}
        }


@pytest.mark.parametrize("stated", [{"shape": [1, 3, 4]}, {"shape": [None, 3, 4]}, {"dtype": "float16"}])
def test_outputs_of_another_shape_or_type_than_is_said(order: Order, stated: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"output 'anchor_boxes': its shape and type are .*'float32'\}, its description says \{'shape"
    ):
        write_verified(Misdescribed(stated), order, order.export, tmp_path / "m.folder", scenes(1))
    assert list(tmp_path.iterdir()) == []


def test_outputs_of_any_number_of_images(order: Order) -> None:
    one, many = order.output_types, replace(order, dynamic_batch=True).output_types
    assert [of["shape"][0] for of in one.values()] == [1, 1]
    assert [of["shape"] for of in many.values()] == [[None, *of["shape"][1:]] for of in one.values()]


def test_a_place_that_cannot_be_written(order: Order, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"m\.folder: cannot be written"):
        write_verified(Folder(), order, order.export, tmp_path / "file" / "m.folder", scenes(1))


class Unreadable(Folder):
    """A format whose engine fails with an error of the file system, which is none of the place's."""

    def open(self, path: Path) -> PytorchFile:
        raise FileNotFoundError("libwhirl.so")


class Full(Folder):
    """A format for which there is no room."""

    def write(self, order: Order, path: Path) -> dict[str, Any]:
        raise OSError(28, "No space left on device")


def test_only_the_place_is_blamed_for_the_place(order: Order, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"libwhirl\.so"):
        write_verified(Unreadable(), order, order.export, tmp_path / "m.folder", scenes(1))
    with pytest.raises(InputError, match=r"m\.folder: cannot be written \(No space left on device\)"):
        write_verified(Full(), order, order.export, tmp_path / "m.folder", scenes(1))
    assert list(tmp_path.iterdir()) == []


def test_no_model_stands_beside_the_description_of_another(
    order: Order, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even if it cannot be moved to the end."""
    path = tmp_path / "m.folder"
    write_verified(Folder(), order, order.export, path, scenes(1))
    move = Path.replace

    def fail_at_the_last(self: Path, target: Path) -> Path:
        if self.suffix == ".json":
            assert not target.exists()
            raise OSError(5, "Input/output error")
        return move(self, target)

    monkeypatch.setattr(Path, "replace", fail_at_the_last)
    with pytest.raises(InputError, match=r"m\.folder: cannot be written \(Input/output error\)"):
        write_verified(Folder(), order, order.export, path, scenes(1))
    assert {file.name for file in tmp_path.iterdir()} == {"m.bin", "m.folder"}


def test_a_folder_of_the_users_stays(order: Order, tmp_path: Path) -> None:
    """Where a file of the format is not a folder."""
    (tmp_path / "m.bin" / "mine").mkdir(parents=True)
    with pytest.raises(InputError, match=r"m\.folder: cannot be written"):
        write_verified(Folder(), order, order.export, tmp_path / "m.folder", scenes(1))
    assert (tmp_path / "m.bin" / "mine").is_dir()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "int8"}, "Folder files are written in fp32, not in int8"),
        ({"form": Form()}, "runtimes of Folder have no non-maximum suppression"),
        ({"dynamic_batch": True}, "Folder files take one image at a time"),
        ({"float_layers": ["backbone.stem", "head"]}, "--keep_float head: the network has no layer of this name"),
    ],
)
def test_what_a_format_cannot_do(order: Order, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_order(Folder(), replace(order, **changes))


def test_int8_needs_images(order: Order) -> None:
    with pytest.raises(InputError, match="int8 learns the ranges of activations from pictures"):
        check_order(find_format("onnx"), Order(order.export, Form(), NAMES, "int8"))


def test_an_unknown_format() -> None:
    with pytest.raises(InputError, match="no format is called 'tensorrt'; there are onnx"):
        find_format("tensorrt")


def test_layers_are_kept_with_all_below_them() -> None:
    assert [is_kept(name, ["a.b", "c"]) for name in ("a.b", "a.b.conv", "a.bc", "a", "c.d", "d.c")] == [
        *(True, True, False),
        *(False, True, False),
    ]
