"""TF.js models: a description and the binary files beside it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mbdet.errors import InputError
from mbdet.weights.files import read_tensors

KERNEL = np.arange(12, dtype=np.float32).reshape(3, 4)
BIAS = np.arange(4, dtype=np.float16)
LEVELS = np.array([0, 128, 255], np.uint8)
WIDE = np.array([0, 65535], np.uint16)
STEPS = np.array([1, -2], np.int32)
GROUPS: list[tuple[list[Any], list[dict[str, Any]]]] = [
    (
        [KERNEL, BIAS],
        [
            {"name": "a/kernel", "shape": [3, 4], "dtype": "float32"},
            {"name": "a/bias", "shape": [4], "dtype": "float32", "quantization": {"dtype": "float16"}},
        ],
    ),
    (
        [LEVELS, WIDE, STEPS],
        [
            {
                "name": "levels",
                "shape": [3],
                "dtype": "float32",
                "quantization": {"dtype": "uint8", "scale": 0.5, "min": -1.0},
            },
            {
                "name": "wide",
                "shape": [2, 1],
                "dtype": "float32",
                "quantization": {"dtype": "uint16", "scale": 2.0, "min": 3.0, "original_dtype": "float32"},
            },
            {"name": "steps", "shape": [2], "dtype": "int32"},
        ],
    ),
]


def write(folder: Path) -> dict[str, Any]:
    """Write both groups, each cut into two files in the middle of a number."""
    manifest = []
    for index, (arrays, weights) in enumerate(GROUPS):
        content = b"".join(array.tobytes() for array in arrays)
        paths = [f"group{index}-shard{part}of2.bin" for part in (1, 2)]
        (folder / paths[0]).write_bytes(content[:5])
        (folder / paths[1]).write_bytes(content[5:])
        manifest.append({"paths": paths, "weights": weights})
    model = {"format": "graph-model", "weightsManifest": manifest}
    (folder / "model.json").write_text(json.dumps(model))
    return model


def test_whole_models(tmp_path: Path) -> None:
    write(tmp_path)
    expected = {
        "a/kernel": KERNEL,
        "a/bias": BIAS.astype(np.float32),
        "levels": np.array([-1.0, 63.0, 126.5], np.float32),
        "wide": np.array([[3.0], [131073.0]], np.float32),
        "steps": STEPS,
    }
    found = read_tensors(tmp_path / "model.json")
    torch.testing.assert_close(found, {name: torch.from_numpy(array) for name, array in expected.items()})


@pytest.mark.parametrize("change", [b"", b"12"])
def test_files_of_another_size(change: bytes, tmp_path: Path) -> None:
    write(tmp_path)
    shard = tmp_path / "group1-shard2of2.bin"
    shard.write_bytes(shard.read_bytes()[:-1] if not change else shard.read_bytes() + change)
    with pytest.raises(InputError, match=r"model\.json: its weight files (end before steps|are longer)"):
        read_tensors(tmp_path / "model.json")


@pytest.mark.parametrize("size", ["described", "stored"])
def test_a_file_named_again_is_not_read(size: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the description goes along with it or not, and whatever it is called."""
    model = write(tmp_path)
    group = model["weightsManifest"][1]
    group["paths"] = ["group1-shard2of2.bin"] + [f"{'./' * number}group1-shard1of2.bin" for number in range(200)]
    if size == "described":
        group["weights"].append({"name": "again", "shape": [199, 5], "dtype": "uint8"})
    (tmp_path / "model.json").write_text(json.dumps(model))
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"reads {path}"))
    with pytest.raises(InputError, match=r"model\.json: names a weight file twice"):
        read_tensors(tmp_path / "model.json")


def test_files_of_another_size_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    (tmp_path / "group0-shard1of2.bin").write_bytes(bytes(10_000))
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"reads {path}"))
    with pytest.raises(InputError, match=r"model\.json: its weight files are longer"):
        read_tensors(tmp_path / "model.json")


def test_a_missing_file(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "group0-shard2of2.bin").unlink()
    with pytest.raises(InputError, match=r"model\.json: needs group0-shard2of2\.bin beside it"):
        read_tensors(tmp_path / "model.json")


@pytest.mark.parametrize("name", ["../secret.bin", "/etc/hostname", "link/secret.bin"])
def test_files_elsewhere_are_not_read(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(b"12345678")
    (folder / "link").symlink_to(tmp_path)
    model = write(folder)
    model["weightsManifest"][0]["paths"][0] = name
    (folder / "model.json").write_text(json.dumps(model))
    with pytest.raises(InputError, match=r"model\.json: names .*, which is not in its folder"):
        read_tensors(folder / "model.json")


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [-3, 4]},
        {"shape": [3.5]},
        {"shape": "x"},
        {"shape": [10**9, 10**9]},
        {"dtype": "string"},
        {"dtype": 3},
        {"quantization": 7},
        {"name": None, "quantization": {"dtype": "uint8", "scale": "x"}},
    ],
)
def test_damaged_descriptions(change: dict[str, Any], tmp_path: Path) -> None:
    model = write(tmp_path)
    model["weightsManifest"][0]["weights"][0] |= change
    (tmp_path / "model.json").write_text(json.dumps(model))
    with pytest.raises(InputError, match=r"model\.json: (damaged|its weight files)"):
        read_tensors(tmp_path / "model.json")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"weightsManifest": 3}', '{"weightsManifest": []}'])
def test_other_json(content: str, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(content)
    with pytest.raises(InputError, match=r"model\.json: (damaged, or not the model\.json|describes no weights)"):
        read_tensors(tmp_path / "model.json")
