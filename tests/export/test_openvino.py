import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_exports import KINDS, NAMES, SIZE, scenes, small_order

from mbdet.config import ConfigCLI
from mbdet.errors import InputError
from mbdet.export.base import Form
from mbdet.export.format import Order, write_verified
from mbdet.runtime.load import load_file, open_file

openvino = pytest.importorskip("openvino")
pytest.importorskip("nncf")

from mbdet.export.openvino import OpenVinoFormat  # noqa: E402

CONFIG = Path(__file__).parents[2] / "configs" / "ssdlite_v2_300_tf_coco.yaml"
CONVOLUTIONS = ("Convolution", "GroupConvolution")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a verified file of each task, that of the detector for any number of images."""
    folder = tmp_path_factory.mktemp("openvino")
    for kind in KINDS:
        order = small_order(kind, nms=True, dynamic_batch=kind == "detection")
        parity = write_verified(OpenVinoFormat(), order, order.export, folder / f"{kind}.xml", scenes())
        assert parity is not None
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_lone_pair_of_files_is_enough(folder: Path, tmp_path: Path, kind: str) -> None:
    for suffix in (".xml", ".bin"):
        (tmp_path / f"m{suffix}").write_bytes((folder / f"{kind}{suffix}").read_bytes())
    predictor = load_file(tmp_path / "m.xml")
    assert predictor.input_size == SIZE
    assert predictor.class_names == NAMES
    file = open_file(tmp_path / "m.xml", "CPU", threads=1)
    assert file.description == {
        key: value
        for key, value in json.loads((folder / f"{kind}.xml.json").read_text()).items()
        if key not in ("parity", "bytes")
    }
    model = openvino.Core().read_model(tmp_path / "m.xml")
    assert model.input(0).any_name == "images"
    assert model.input(0).element_type == openvino.Type.u8
    assert [output.any_name for output in model.outputs] == list(file.description["output"])


@pytest.mark.parametrize("batch", [1, 3])
def test_any_batch_gives_what_the_network_gives(folder: Path, batch: int) -> None:
    order = small_order("detection", nms=True)
    file = open_file(folder / "detection.xml")
    assert file.batch is None
    images = scenes(batch)
    with torch.no_grad():
        expected = order.export(torch.from_numpy(images), Form())
    first = file.compute(images[::-1])
    found = file.compute(images)
    for name in ("counts", "labels"):
        np.testing.assert_array_equal(found[name], expected[name].numpy())
    np.testing.assert_allclose(found["scores"], expected["scores"].numpy(), atol=1e-4)
    np.testing.assert_allclose(found["boxes"], expected["boxes"].numpy(), atol=0.05)
    assert found["counts"].min() > 0
    assert first["boxes"] is not found["boxes"]
    assert (first["scores"] == found["scores"]).all() == (batch == 1)  # not the memory of the call before


def ancestors(node: Any, until: tuple[str, ...]) -> Iterator[Any]:
    """Yield what a node is computed from, back to operators of some types."""
    seen, stack = set[str](), [node]
    while stack:
        node = stack.pop()
        if node.get_friendly_name() not in seen:
            seen.add(node.get_friendly_name())
            yield node
            if node.get_type_name() not in until:
                stack += [node.input_value(index).get_node() for index in range(node.get_input_size())]


def weight_types(model: Any) -> dict[str, str]:
    """Return the type of the stored weights of each convolution, by its name."""
    types = {}
    for operator in model.get_ops():
        if operator.get_type_name() in CONVOLUTIONS:
            weights = operator.input_value(1).get_node()
            stored = [node for node in ancestors(weights, ()) if node.get_type_name() == "Constant"]
            types[operator.get_friendly_name()] = max(stored, key=lambda node: node.data.size).get_element_type()
    return {name: kind.get_type_name() for name, kind in types.items()}


def test_half_precision_is_of_the_weights(folder: Path, tmp_path: Path) -> None:
    order = small_order("multitask", nms=True, precision="fp16")
    assert write_verified(OpenVinoFormat(), order, order.export, tmp_path / "m.xml", scenes()) is not None
    model = openvino.Core().read_model(tmp_path / "m.xml")
    assert set(weight_types(model).values()) == {"f16"}
    network: Any = order.export.network
    anchors = [
        node.get_element_type().get_type_name()
        for node in model.get_ops()
        if node.get_type_name() == "Constant"
        and list(node.get_output_shape(0))[-2:] == [*network.detector.anchors.shape]
    ]
    assert set(anchors) == {"f32"}
    sizes = [(path / name).stat().st_size for path, name in ((tmp_path, "m.bin"), (folder, "multitask.bin"))]
    assert sizes[0] < 0.6 * sizes[1]


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("int8") / "m.xml"
    kept = ("detector.class_heads", "backbone.stem.conv")
    order = small_order("multitask", nms=True, precision="int8", calibration=scenes(4), float_layers=kept)
    OpenVinoFormat().write(order, path)
    return openvino.Core().read_model(path), order


def test_int8_leaves_the_named_layers_as_they_are(quantized: Any) -> None:
    model, order = quantized
    types = list(weight_types(model).values())
    convolutions = [name for name, layer in order.export.network.named_modules() if isinstance(layer, torch.nn.Conv2d)]
    kept = [name for name in convolutions if name.startswith(("detector.class_heads", "backbone.stem"))]
    assert types.count("f32") == len(kept)
    assert types.count("i8") == len(convolutions) - len(kept)


def test_int8_is_of_the_network_alone(quantized: Any) -> None:
    model, _ = quantized
    for output in model.outputs:
        if output.any_name != "classes":
            decoding = [node.get_type_name() for node in ancestors(output.get_node(), CONVOLUTIONS)]
            assert "FakeQuantize" not in decoding
            assert any(name in CONVOLUTIONS for name in decoding)
    assert sum(node.get_type_name() == "FakeQuantize" for node in model.get_ops()) > 20


@pytest.mark.slow
def test_published_weights_in_8_bits(real_data: Path, tmp_path: Path) -> None:
    from mbdet.commands.export import spread_pictures

    cli = ConfigCLI(CONFIG)
    predictor = cli.predictor(real_data / "weights" / "ssdlite_mobilenet_v2_coco.npz", device="cpu")
    export = cli.task.export()
    calibration = spread_pictures(real_data / "coco" / "train2017", 32, predictor.prepare)
    pictures = spread_pictures(real_data / "coco" / "val2017", 8, predictor.prepare)
    order = Order(export, Form(), predictor.class_names, "int8", calibration=calibration)
    parity = write_verified(OpenVinoFormat(), order, export, tmp_path / "m.xml", pictures)
    assert parity.same > 0.9 * parity.detections
    assert parity.iou > 0.9


def test_what_is_not_openvino_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(graph: object) -> None:
        raise RuntimeError("No conversion rule for Whirl\n at line 3")

    monkeypatch.setattr("openvino.convert_model", fail)
    with pytest.raises(InputError, match=r"OpenVINO's converter refuses the network \(No conversion rule for Whirl\)"):
        OpenVinoFormat().write(small_order("classification", nms=True), tmp_path / "m.xml")
