"""The formats by name."""

import sys

import pytest

from mbdet.errors import InputError
from mbdet.export.formats import NAMES, find_format

LIBRARIES = {
    "onnx": ("onnx", "onnxscript", "onnxruntime.quantization"),
    "openvino": ("openvino", "nncf"),
    "executorch": ("executorch.exir", "torchao.quantization.pt2e.quantize_pt2e"),
    "litert": ("litert_torch", "ai_edge_quantizer.quantizer", "ai_edge_litert.interpreter"),
    "coreml": ("coremltools",),
    "ncnn": ("ncnn", "pnnx"),
}


def test_every_format_is_here() -> None:
    assert set(LIBRARIES) == set(NAMES)


@pytest.mark.parametrize(("name", "library"), [(name, one) for name, every in LIBRARIES.items() for one in every])
def test_a_missing_library_names_the_extra(name: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (*(f"mbdet.{part}.{name}" for part in ("export", "runtime")), "mbdet.export.onnx_precision"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InputError, match=rf"needs {library}: pip install 'mbdet\[{name}\]'"):
        find_format(name)
