"""TFLite files, written here with the schema's own builder."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
import tflite
import torch
from torch import Tensor

from mbdet.backbones import MobileNetV1
from mbdet.errors import InputError
from mbdet.models import Classifier
from mbdet.weights import load_weights
from mbdet.weights.files import read_tensors

TYPES = {
    "float32": tflite.TensorType.FLOAT32,
    "float16": tflite.TensorType.FLOAT16,
    "int32": tflite.TensorType.INT32,
    "int64": tflite.TensorType.INT64,
    "uint8": tflite.TensorType.UINT8,
    "int8": tflite.TensorType.INT8,
    "bool": tflite.TensorType.BOOL,
}


def write_tflite(arrays: Mapping[str, Any], path: Path, tables: int = 1, sharing: int = 1) -> Path:
    """Write arrays as the constants of a graph, and an activation, which has no data.

    The bytes of every array are written once, whatever the number of buffers that consist of them (`tables`) and of
    tensors on each buffer (`sharing`).
    """
    builder = flatbuffers.Builder(1024)

    def vector(offsets: list[int], start: Callable[[Any, int], Any]) -> int:
        start(builder, len(offsets))
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return int(builder.EndVector())

    def buffer(content: int | None) -> int:
        tflite.BufferStart(builder)
        if content is not None:
            tflite.BufferAddData(builder, content)
        return int(tflite.BufferEnd(builder))

    def tensor(name: str, shape: tuple[int, ...], dtype: str, index: int) -> int:
        label, sides = builder.CreateString(name), builder.CreateNumpyVector(np.array(shape, np.int32))
        tflite.TensorStart(builder)
        tflite.TensorAddShape(builder, sides)
        tflite.TensorAddType(builder, TYPES[dtype])
        tflite.TensorAddBuffer(builder, index)
        tflite.TensorAddName(builder, label)
        return int(tflite.TensorEnd(builder))

    contents = [builder.CreateByteVector(array.tobytes()) for array in arrays.values()]
    buffers = [buffer(None), *(buffer(content) for content in contents for _ in range(tables))]
    tensors = [tensor("input", (1, 224, 224, 3), "float32", 0)]
    for position, (name, a) in enumerate(arrays.items()):
        for copy in range(tables * sharing):
            label = f"{name}_{copy}" if copy else name
            tensors.append(tensor(label, a.shape, str(a.dtype), 1 + position * tables + copy // sharing))
    listed = vector(tensors, tflite.SubGraphStartTensorsVector)
    tflite.SubGraphStart(builder)
    tflite.SubGraphAddTensors(builder, listed)
    graphs = vector([int(tflite.SubGraphEnd(builder))], tflite.ModelStartSubgraphsVector)
    all_buffers = vector(buffers, tflite.ModelStartBuffersVector)
    tflite.ModelStart(builder)
    tflite.ModelAddVersion(builder, 3)
    tflite.ModelAddSubgraphs(builder, graphs)
    tflite.ModelAddBuffers(builder, all_buffers)
    builder.Finish(tflite.ModelEnd(builder), file_identifier=b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


ARRAYS = {
    "a/weights": np.arange(24, dtype=np.float32).reshape(2, 1, 3, 4),
    "a/half": np.arange(6, dtype=np.float16).reshape(2, 3),
    "shape": np.array([1, -1], np.int32),
    "one": np.array(7.0, np.float32),
}


def test_constants_and_nothing_else(tmp_path: Path) -> None:
    tensors = read_tensors(write_tflite(ARRAYS, tmp_path / "w.tflite"))
    assert set(tensors) == set(ARRAYS)
    for name, array in ARRAYS.items():
        torch.testing.assert_close(tensors[name], torch.from_numpy(array))


def test_tensors_on_one_buffer_share_their_memory(tmp_path: Path) -> None:
    array = np.arange(5000, dtype=np.float32)
    path = write_tflite({"a": array}, tmp_path / "w.tflite", sharing=100)
    tensors = read_tensors(path)
    assert len(tensors) == 100
    assert len({value.data_ptr() for value in tensors.values()}) == 1
    torch.testing.assert_close(tensors["a_99"], torch.from_numpy(array))


def test_buffers_of_more_bytes_than_the_file_are_refused(tmp_path: Path) -> None:
    path = write_tflite({"a": np.zeros(5000, np.float32)}, tmp_path / "w.tflite", tables=100)
    assert path.stat().st_size < 2 * 20_000
    with pytest.raises(InputError, match=r"w\.tflite: damaged, holds more than its size"):
        read_tensors(path)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_weights_in_8_bits_are_refused(dtype: str, tmp_path: Path) -> None:
    path = write_tflite({"a/weights": np.zeros((2, 1, 1, 2), dtype)}, tmp_path / "w.tflite")
    with pytest.raises(InputError, match=r"w\.tflite: a/weights is quantised; mbdet loads the float version"):
        read_tensors(path)


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    path = write_tflite(ARRAYS, tmp_path / "w.tflite")
    content = path.read_bytes()
    for length in (0, 5, 8, 20, len(content) // 2):
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match=r"w\.tflite: .*damaged"):
            read_tensors(path)


def test_without_the_package_the_cure_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = write_tflite(ARRAYS, tmp_path / "w.tflite")
    monkeypatch.setitem(__import__("sys").modules, "tflite", None)
    with pytest.raises(InputError, match=r"w\.tflite: .*pip install 'mbdet\[tf\]'"):
        read_tensors(path)


@torch.no_grad()
def test_a_classifier_as_google_publishes_it(images: Tensor, tmp_path: Path, randomised: Any, tf_writer: Any) -> None:
    """MobilenetV1's names in mobilenet_v1_1.0_224.tflite."""
    source = randomised(Classifier(MobileNetV1(0.25, padding="same"), 1001))
    writer = tf_writer("tflite")
    writer.backbone(source.backbone, 1, "MobilenetV1|")
    writer.conv("MobilenetV1|Logits|Conv2d_1c_1x1", source.logits.weight.data, source.logits.bias.data)
    arrays = {name.replace("|", "/"): value.numpy() for name, value in writer.tensors().items()}
    assert arrays["MobilenetV1/Conv2d_1_depthwise/depthwise_weights"].shape == (1, 3, 3, 8)
    assert "MobilenetV1/MobilenetV1/Conv2d_6_pointwise/convolution_bias" in arrays
    network = Classifier(MobileNetV1(0.25, padding="same"), 1000).eval()
    load_weights(network, write_tflite(arrays, tmp_path / "w.tflite"))
    source.backbone.normalize = network.backbone.normalize
    torch.testing.assert_close(network(images), source(images)[:, 1:], rtol=1e-4, atol=1e-4)
