import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mbdet.errors import InputError
from mbdet.runtime.load import PREDICTORS, load_file
from mbdet.runtime.memory import memory_of
from mbdet.runtime.model_file import ModelFile, Values, read_description

DESCRIPTION: dict[str, Any] = {
    "task": "segmentation",
    "class_names": ["a", "b"],
    "input": {"size": [4, 6], "batch": 1, "resize": "fit"},
    "output": {"classes": "of each pixel"},
}
DECODING = {
    **{"score_threshold": 0.01, "iou_threshold": 0.6},
    **{"max_candidates": 10, "max_per_class": 10, "max_detections": 10},
}
OBJECTS = {"anchor_boxes": "", "class_scores": ""}


class Colours(ModelFile):
    """Gives each image's first pixel, and remembers how many it was given at once."""

    def __init__(self, description: dict[str, object]) -> None:
        super().__init__(Path("m.any"), description)
        self.calls: list[int] = []

    def compute(self, images: np.ndarray) -> Values:
        self.calls.append(len(images))
        return {"first": images[:, 0, 0, 0]}


@pytest.mark.parametrize(("batch", "calls"), [(1, [1] * 5), (2, [2, 2, 1]), (None, [5])])
def test_a_file_gets_as_many_images_at_once_as_it_takes(batch: int | None, calls: list[int]) -> None:
    file = Colours({**DESCRIPTION, "input": {**DESCRIPTION["input"], "batch": batch}})
    images = np.arange(5 * 3 * 4 * 6, dtype=np.uint8).reshape(5, 3, 4, 6)
    np.testing.assert_array_equal(file.run(images)["first"], images[:, 0, 0, 0])
    assert file.calls == calls


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(InputError, match=r"m\.any: takes RGB images of 4x6 \(height x width\), not an"):
        Colours(DESCRIPTION).run(np.zeros((1, 3, 6, 4), np.uint8))


@pytest.mark.parametrize("lacking", ["task", "class_names", "input"])
def test_a_description_that_lacks_something(lacking: str) -> None:
    with pytest.raises(InputError, match="was not exported by mbdet"):
        Colours({name: value for name, value in DESCRIPTION.items() if name != lacking})


def described(task: str) -> dict[str, Any]:
    """Return a description of a file of a task, with all that it needs."""
    more: dict[str, Any] = {
        "detection": {"output": OBJECTS, "decoding": DECODING},
        "segmentation": {},
        "classification": {"output": {"probabilities": ""}, "input": {**DESCRIPTION["input"], "central_crop": 0.875}},
        "multitask": {"output": {**OBJECTS, "logits": ""}, "decoding": DECODING, "segment_names": ["sky", "sea"]},
    }[task]
    return copy.deepcopy({**DESCRIPTION, "task": task, **more})


@pytest.mark.parametrize("task", PREDICTORS)
def test_a_whole_description_serves_its_predictor(task: str) -> None:
    assert PREDICTORS[task](Colours(described(task))).class_names == ("a", "b")


@pytest.mark.parametrize(
    ("task", "entry", "values", "name"),
    [
        ("detection", "class_names", ["cat", [1], {"a": 1}], "class_names"),
        ("detection", "input", ["NCHW", [300, 300]], "input"),
        ("detection", "input.size", [None, 300, [300], ["a", "b"], [0, 300]], "size of input"),
        ("detection", "input.batch", [0, "many", True], "batch of input"),
        ("detection", "output", [None, [], {}, {"boxes": ""}, {"classes": ""}], "output"),
        ("detection", "decoding", [None, 1], "decoding"),
        ("detection", "decoding.max_candidates", [None, "all", 0], "decoding"),
        ("detection", "decoding.iou_threshold", [None, "0.6"], "decoding"),
        ("segmentation", "output", [None, {"boxes": ""}], "output"),
        ("segmentation", "input.resize", [None, "squeeze", ["fit"]], "resize of input"),
        ("classification", "output", [None, {"classes": ""}], "output"),
        ("classification", "input.central_crop", [None, "all", 0, 87.5], "central_crop of input"),
        ("multitask", "output", [OBJECTS, {"logits": ""}], "output"),
        ("multitask", "segment_names", [None, "sky", []], "segment_names"),
        ("unheard of", "output", [None], "output"),
    ],
)
def test_a_damaged_entry_is_named(task: str, entry: str, values: list[object], name: str) -> None:
    for value in values:
        description = described(task if task in PREDICTORS else "segmentation") | {"task": task}
        *outer, last = entry.split(".")
        inner = description[outer[0]] if outer else description
        if value is None:
            del inner[last]
        else:
            inner[last] = value
        with pytest.raises(InputError, match=rf"m\.any: {name} in its description is missing or damaged"):
            Colours(description)


def test_what_stands_beside_a_file(tmp_path: Path) -> None:
    path = tmp_path / "m.any"
    with pytest.raises(InputError, match=r"m\.any: no such model file"):
        read_description(path)
    path.touch()
    with pytest.raises(InputError, match=r"m\.any\.json, which names its classes, is not beside it"):
        read_description(path)
    beside = tmp_path / "m.any.json"
    for content in ("{", "[]"):
        beside.write_text(content)
        with pytest.raises(InputError, match=r"m\.any\.json: "):
            read_description(path)
    beside.write_text(json.dumps(DESCRIPTION))
    assert read_description(path) == DESCRIPTION


# Importing needs 200 MB for a moment, loading 100 MB.
ENGINE = """
import errno
from pathlib import Path
import numpy as np
from mbdet.runtime import memory

class File:
    input_size = (8, 8)
    def __init__(self, path, device, threads):
        self.weights = np.ones(100_000_000, np.uint8)
    def run(self, images):
        assert images.shape == (1, 3, 8, 8)

def find_engine(path):
    np.ones(200_000_000, np.uint8)
    return File

def refuse(path, text):
    raise PermissionError(errno.EACCES, "no")

def measure(forgets):
    memory.find_engine = find_engine
    if not forgets:
        Path.write_text = refuse
    memory.main(Path("any"))
"""


def test_a_file_of_no_engine() -> None:
    with pytest.raises(InputError, match=r"m\.pth: no engine runs \.pth files; give one of \.onnx"):
        load_file(Path("m.pth"))


def test_memory_of_a_file_that_cannot_be_run(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"m\.onnx: its memory could not be measured: .*ONNX Runtime cannot load it"):
        memory_of(tmp_path / "m.onnx")


def test_memory_of_a_file_whose_engine_prints_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", shutil.which("true"))
    with pytest.raises(InputError, match=r"m\.onnx: its memory could not be measured: it stopped with 0"):
        memory_of(tmp_path / "m.onnx")


@pytest.mark.parametrize("forgets", [True, False], ids=["Linux", "a system that keeps the peak"])
def test_memory_is_counted_from_what_is_in_use(tmp_path: Path, forgets: bool) -> None:
    """Not from what the imports needed for a moment, wherever the system can forget that."""
    if forgets and not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("the peak cannot be forgotten here")
    (tmp_path / "engine.py").write_text(ENGINE)
    program = f"import engine; engine.measure({forgets})"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env={"PYTHONPATH": f"{root}:{tmp_path}"}, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    grown = int(done.stdout) / 1e6
    assert 90 < grown < 130 if forgets else grown < 30
