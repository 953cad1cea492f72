import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from PIL import Image

from mbdet.errors import InputError
from mbdet.runtime.load import load_file
from mbdet.runtime.predictor import as_array, to_original


def test_missing_file() -> None:
    with pytest.raises(InputError, match=r"nothing\.onnx: no such model file"):
        load_file(Path("nothing.onnx"))


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("cuda", "install onnxruntime-gpu"),
        ("cuda:1", "install onnxruntime-gpu"),
        ("gpu", "runs on cpu, or on cuda or cuda:N with onnxruntime-gpu"),
        ("cuda:x", "runs on cpu, or on cuda or cuda:N"),
    ],
)
def test_no_other_device_is_taken_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, message: str
) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    path = tmp_path / "any.onnx"
    path.touch()
    with pytest.raises(InputError, match=f"device '{device}'.*{message}"):
        load_file(path, device)


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (None, [("CUDAExecutionProvider", {"device_id": 0}), "CPUExecutionProvider"]),
        ("cuda:1", [("CUDAExecutionProvider", {"device_id": 1}), "CPUExecutionProvider"]),
        ("cpu", ["CPUExecutionProvider"]),
    ],
)
def test_the_gpu_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str | None, expected: list[object]
) -> None:
    class Session:
        def __init__(self, path: str, options: onnxruntime.SessionOptions, providers: list[object]) -> None:
            assert providers == expected
            assert options.get_session_config_entry("session.force_spinning_stop") == "1"  # spares other engines
            raise ValueError("right")

    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr("onnxruntime.InferenceSession", Session)
    path = tmp_path / "any.onnx"
    path.touch()
    with pytest.raises(InputError, match=r"ONNX Runtime cannot load it \(right\)"):
        load_file(path, device)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x0a" * 50])
def test_damaged_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.onnx"):
        load_file(path)


def test_a_model_of_another_kind(tmp_path: Path) -> None:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
    path = tmp_path / "other.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    with pytest.raises(InputError, match="was not exported by mbdet"):
        load_file(path)


def brightest_colour(path: Path, task: str = "segmentation", probabilities: bool = False) -> Path:
    """Write a segmenter of 20x30 pixels whose classes are the colours."""
    shape = ["batch", 3, 20, 30]
    nodes = [
        helper.make_node("Cast", ["images"], ["colours"], to=TensorProto.FLOAT),
        helper.make_node("ArgMax", ["colours"], ["labels"], axis=1, keepdims=0),
        helper.make_node("Cast", ["labels"], ["classes"], to=TensorProto.UINT8),
    ]
    outputs = [helper.make_tensor_value_info("classes", TensorProto.UINT8, ["batch", 20, 30])]
    if probabilities:
        nodes += [
            helper.make_node("Constant", [], ["scale"], value_float=1 / 256),
            helper.make_node("Mul", ["colours", "scale"], ["probabilities"]),
        ]
        outputs.append(helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, shape))
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, shape)
    model = helper.make_model(
        helper.make_graph(nodes, "g", [images], outputs), opset_imports=[helper.make_opsetid("", 20)], ir_version=10
    )
    described = {"size": [20, 30], "resize": "fit"}
    names = json.dumps(["red", "green", "blue"])
    entries = {"input": described, "output": {output.name: "" for output in outputs}}
    texts = {name: json.dumps(entry) for name, entry in entries.items()}
    helper.set_model_props(model, {"task": task, "class_names": names, **texts})
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("probabilities", [False, True])
def test_a_segmenter_gives_the_classes_of_the_picture(tmp_path: Path, probabilities: bool) -> None:
    segmenter = load_file(brightest_colour(tmp_path / "m.onnx", probabilities=probabilities))
    assert segmenter.preparation == {"input_size": (20, 30), "resizing": "fit"}
    picture = np.zeros((81, 40, 3), np.uint8)
    picture[:40, :, 1], picture[40:60, :, 0], picture[60:, :, 2] = 64, 128, 192
    found = segmenter(picture)
    assert found.classes.shape == (81, 40)
    inner = [found.classes[2:36], found.classes[44:56], found.classes[64:]]
    assert [np.unique(part).tolist() for part in inner] == [[1], [0], [2]]
    if probabilities:
        assert [found.scores[row, 20] for row in (10, 50, 70)] == [0.25, 0.5, 0.75]
        kept = segmenter(picture, 0.5).classes
        assert [kept[row, 20] for row in (10, 50, 70)] == [255, 0, 2]
    else:
        assert found.scores is None
        with pytest.raises(InputError, match="gives classes alone; export it with --probabilities to use a threshold"):
            segmenter(picture, 0.5)


def test_a_task_of_the_future(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"m\.onnx: is for depth, but this mbdet knows detection, classification, segm"
    ):
        load_file(brightest_colour(tmp_path / "m.onnx", "depth"))


def test_boxes_return_to_the_original() -> None:
    boxes = np.array([[0, 0, 10, 20], [5, 5, 10, 10]], np.float32)
    moved = to_original(boxes, (20, 10), np.array([200, 50]))
    np.testing.assert_array_equal(moved, [[0, 0, 50, 200], [25, 50, 50, 100]])
    assert moved.dtype == np.float32


def test_a_picture_may_be_a_path_an_image_or_an_array(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for picture in (pixels, Image.fromarray(pixels), tmp_path / "a.png", str(tmp_path / "a.png")):
        np.testing.assert_array_equal(as_array(picture), pixels)
    with pytest.raises(ValueError, match=r"uint8 RGB, got \(7, 5\)"):
        as_array(pixels[..., 0])
    with pytest.raises(ValueError, match="float64"):
        as_array(pixels.astype(float))
