import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mbdet.errors import InputError
from mbdet.runtime.load import open_file

openvino = pytest.importorskip("openvino")
from openvino import opset15  # noqa: E402


def doubled(path: Path, description: str | None) -> Path:
    """Write a model that doubles a picture of 2x3 pixels."""
    images = opset15.parameter([1, 3, 2, 3], np.uint8, name="images")
    values = opset15.multiply(opset15.convert(images, "f32"), opset15.constant(np.full((1, 3, 1, 1), 2, np.float32)))
    model = openvino.Model([values], [images], "m")
    model.input(0).set_names({"images"})
    model.output(0).set_names({"probabilities"})
    if description is not None:
        model.set_rt_info(description, ["mbdet"])
    openvino.save_model(model, path, compress_to_fp16=False)
    return path


DESCRIPTION = (
    '{"task": "classification", "class_names": ["a \\"b\\" <é>"], "output": {"probabilities": ""},'
    ' "input": {"size": [2, 3], "batch": 1, "central_crop": 1}}'
)


def test_it_computes_and_keeps_its_description(tmp_path: Path) -> None:
    file = open_file(doubled(tmp_path / "m.xml", DESCRIPTION), threads=1)
    assert file.class_names == ('a "b" <é>',)
    images = np.arange(18, dtype=np.uint8).reshape(1, 2, 3, 3).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(file.compute(images)["probabilities"], 2.0 * images)


def test_missing_files(tmp_path: Path) -> None:
    path = doubled(tmp_path / "m.xml", DESCRIPTION)
    (tmp_path / "m.bin").unlink()
    with pytest.raises(InputError, match=r"m\.xml: m\.bin, which holds its weights, is not beside it; copy both"):
        open_file(path)
    with pytest.raises(InputError, match=r"n\.xml: no such model file"):
        open_file(tmp_path / "n.xml")


@pytest.mark.parametrize("content", [b"", b"<net>", b"<annotation><filename>a.jpg</filename></annotation>"])
def test_damaged_file(tmp_path: Path, content: bytes) -> None:
    path = doubled(tmp_path / "m.xml", DESCRIPTION)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"m\.xml: OpenVINO cannot load it"):
        open_file(path)


def test_damaged_weights(tmp_path: Path) -> None:
    path = doubled(tmp_path / "m.xml", DESCRIPTION)
    (tmp_path / "m.bin").write_bytes(b"")
    with pytest.raises(InputError, match=r"m\.xml: OpenVINO cannot load it"):
        open_file(path)


@pytest.mark.parametrize("description", [None, "not JSON", "[]", "{}"])
def test_a_model_of_another_kind(tmp_path: Path, description: str | None) -> None:
    with pytest.raises(InputError, match="was not exported by mbdet"):
        open_file(doubled(tmp_path / "m.xml", description))


@pytest.mark.parametrize("device", ["cuda", "gpu", "npu.7"])
def test_no_other_device_is_taken_instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setattr(openvino.Core, "available_devices", ["CPU"])
    with pytest.raises(InputError, match=f"device '{device}': OpenVINO finds cpu on this machine"):
        open_file(doubled(tmp_path / "m.xml", DESCRIPTION), device)


@pytest.mark.parametrize(
    ("device", "precision", "expected"),
    [(None, "fp16", "f32"), ("gpu", "fp32", "f32"), ("gpu", "fp16", "f16"), ("gpu.0", "int8", "f16")],
)
def test_the_cpu_computes_in_single_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str | None, precision: str, expected: str
) -> None:
    def compile_model(self: object, model: object, device: str, options: dict[str, object]) -> None:
        raise RuntimeError(f"{device} {options['INFERENCE_PRECISION_HINT']}")

    path = doubled(tmp_path / "m.xml", DESCRIPTION.replace("{", f'{{"precision": "{precision}", ', 1))
    monkeypatch.setattr(openvino.Core, "available_devices", ["CPU", "GPU.0", "GPU.1"])
    monkeypatch.setattr(openvino.Core, "compile_model", compile_model)
    with pytest.raises(InputError, match=rf"\({(device or 'cpu').upper()} {expected}\)"):
        open_file(path, device)


def test_without_openvino_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "mbdet.runtime.openvino", raising=False)
    with pytest.raises(InputError, match=r"pip install openvino"):
        open_file(tmp_path / "m.xml")


def test_signals_arrive_when_all_files_are_closed(tmp_path: Path) -> None:
    program = (
        "import signal, subprocess, sys; from pathlib import Path; from mbdet.runtime.load import open_file\n"
        "signal.signal(signal.SIGCHLD, lambda *_: print('arrived'))\n"
        "files = [open_file(Path(sys.argv[1])) for _ in range(2)]\n"
        "del files[0]; del files[0]\n"
        "subprocess.run([sys.executable, '-c', ''])\n"
    )
    path = doubled(tmp_path / "m.xml", DESCRIPTION)
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "arrived" in done.stdout
