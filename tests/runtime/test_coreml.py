"""Core ML itself is not here: only what it is given, and what is made of what it gives."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mbdet.errors import InputError
from mbdet.runtime.load import open_file
from mbdet.runtime.quiet import quiet


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return a segmenter of 4x6 pixels without its network."""
    path = tmp_path / "m.mlpackage"
    path.mkdir()
    description = {
        "task": "segmentation",
        "class_names": ["a", "b"],
        "input": {"size": [4, 6], "batch": 1, "resize": "fit"},
        "output": {"classes": "of pixels"},
    }
    path.with_name("m.mlpackage.json").write_text(json.dumps(description))
    return path


def test_it_cannot_be_run_elsewhere_than_on_a_mac(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(InputError, match=r"m\.mlpackage: Core ML runs on Apple's systems alone"):
        open_file(package)


def test_without_its_description(package: Path) -> None:
    package.with_name("m.mlpackage.json").unlink()
    with pytest.raises(InputError, match=r"m\.mlpackage\.json, which names its classes, is not beside it"):
        open_file(package)


@pytest.mark.parametrize(("device", "threads"), [("gpu", None), (None, 2)])
def test_other_devices(package: Path, monkeypatch: pytest.MonkeyPatch, device: str | None, threads: int | None) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(InputError, match="runs on cpu or, with no device named, where Core ML thinks best"):
        open_file(package, device, threads)


def test_without_coremltools_the_extra_is_named(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setitem(sys.modules, "coremltools", None)
    with pytest.raises(InputError, match=r"pip install coremltools"):
        open_file(package)


@pytest.mark.parametrize(("device", "units"), [(None, "ALL"), ("cpu", "CPU_ONLY")])
def test_how_a_package_is_run(package: Path, monkeypatch: pytest.MonkeyPatch, device: str | None, units: str) -> None:
    with quiet():
        pytest.importorskip("coremltools")

    class Model:
        def __init__(self, path: str, compute_units: Any) -> None:
            assert path == str(package)
            assert compute_units.name == units

        def predict(self, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
            assert inputs["images"].mode == "RGB"
            return {"classes": np.asarray(inputs["images"])[None, :, :, 1].astype(np.int32)}

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr("coremltools.models.MLModel", Model)
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 4, 6), dtype=np.uint8)
    found = open_file(package, device).run(images)["classes"]
    np.testing.assert_array_equal(found, images[:, 1])
    assert found.dtype == np.uint8
