"""Printing what an exported file takes and gives."""

import json
from pathlib import Path

import pytest

from mbdet.cli import main


def test_a_file_s_contract(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    description = {
        "task": "segmentation",
        "class_names": ["sky", "sea"],
        "input": {
            **{"batch": 1, "layout": "NHWC", "size": [48, 96], "color": "RGB", "dtype": "uint8"},
            **{"resize": "stretch", "interpolation": "bilinear, antialiased"},
        },
        "output": {"classes": "indices into class_names"},
        "output_types": {"classes": {"shape": [1, 48, 96], "dtype": "uint8"}},
    }
    (tmp_path / "m.tflite").touch()
    assert main(["contract", str(tmp_path / "m.tflite")]) == 2
    assert "m.tflite.json, which names its classes, is not beside it" in capsys.readouterr().err
    (tmp_path / "m.tflite.json").write_text(json.dumps(description))
    assert main(["contract", str(tmp_path / "m.tflite")]) == 0
    text = capsys.readouterr().out
    assert "| shape | (1, 48, 96, 3): image, row, column, colour (NHWC) |\n" in text
    assert text.endswith("class_names: 0 sky, 1 sea\n")
