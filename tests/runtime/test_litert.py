"""TFLite files that cannot be run say why."""

import json
import sys
from pathlib import Path

import pytest

from mbdet.errors import InputError
from mbdet.runtime.load import is_model_file, open_file

DESCRIPTION = {
    "task": "classification",
    "class_names": ["a"],
    "input": {"size": [8, 8], "batch": 1, "central_crop": 1},
    "output": {"probabilities": "of each class"},
}


def described(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.with_name(f"{path.name}.json").write_text(json.dumps(DESCRIPTION))
    return path


def test_missing_file_or_description(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    path = tmp_path / "m.tflite"
    with pytest.raises(InputError, match=r"m\.tflite: no such model file"):
        open_file(path)
    path.write_bytes(b"TFL3")
    with pytest.raises(InputError, match=r"m\.tflite\.json, which names its classes, is not beside it"):
        open_file(path)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x1c\x00\x00\x00TFL3" + b"\xff" * 64])
def test_damaged_file(tmp_path: Path, content: bytes) -> None:
    pytest.importorskip("ai_edge_litert")
    with pytest.raises(InputError, match=r"m\.tflite: LiteRT cannot load it"):
        open_file(described(tmp_path / "m.tflite", content))


@pytest.mark.parametrize("device", ["cuda", "gpu"])
def test_no_other_device_is_taken_instead(tmp_path: Path, device: str) -> None:
    pytest.importorskip("ai_edge_litert")
    with pytest.raises(InputError, match=f"device '{device}': a TFLite file runs on cpu here"):
        open_file(described(tmp_path / "m.tflite", b""), device)


def test_a_missing_engine_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mbdet.runtime.litert", raising=False)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(InputError, match=r"pip install ai-edge-litert"):
        open_file(described(tmp_path / "m.tflite", b""))


def test_published_weights_in_the_same_format_are_no_model_file(tmp_path: Path) -> None:
    assert not is_model_file(tmp_path / "m.tflite")
    assert is_model_file(described(tmp_path / "m.tflite", b""))
