"""The shapes and types of outputs that descriptions state are those that files have."""

from pathlib import Path

import pytest
from small_exports import scenes, small_order

from mbdet.export.format import write_verified
from mbdet.export.formats import find_format
from mbdet.runtime.load import open_file
from mbdet.runtime.model_file import read_description


@pytest.mark.parametrize(
    ("name", "library", "kind", "nms", "dynamic"),
    [
        ("onnx", "onnxruntime", "detection", True, True),
        ("openvino", "openvino", "segmentation", False, False),
        ("ncnn", "pnnx", "detection", False, False),
    ],
)
def test_what_is_stated_is_what_comes_out(
    name: str, library: str, kind: str, nms: bool, dynamic: bool, tmp_path: Path
) -> None:
    pytest.importorskip(library)
    target = find_format(name)
    order = small_order(kind, nms=nms, dynamic_batch=dynamic)
    path = tmp_path / f"m{target.suffix}"
    write_verified(target, order, order.export, path, scenes(2))
    types = read_description(path)["output_types"]
    found = open_file(path, "cpu").compute(scenes(2 if dynamic else 1))
    assert {output: str(values.dtype) for output, values in found.items()} == {
        output: of["dtype"] for output, of in types.items()
    }
    for output, values in found.items():
        shape = types[output]["shape"]
        if dynamic:
            assert shape[0] is None
            assert (len(values), *shape[1:]) == values.shape
        else:  # ncnn's own have no axis for the image
            assert tuple(shape) == (values.shape[1:] if name == "ncnn" else values.shape)
