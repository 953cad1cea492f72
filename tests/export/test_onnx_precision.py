"""Fewer bits in ONNX: the network alone, what is to stay float does, and the published detector keeps its accuracy."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from test_onnx import NAMES, make_network, scenes

from mbdet.commands.export import spread_pictures
from mbdet.config import ConfigCLI
from mbdet.errors import InputError
from mbdet.export.base import Form
from mbdet.export.detection import DetectionExport
from mbdet.export.format import Order, write_verified
from mbdet.export.objects import Agreement
from mbdet.export.onnx import OnnxFormat, convert
from mbdet.export.onnx_precision import halve, quantize
from mbdet.ops import Postprocess

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return convert(Order(DetectionExport(make_network().eval(), Postprocess()), Form(), NAMES))


def quantised_layers(model: onnx.ModelProto) -> set[str]:
    """Return the names of the convolutions whose weights are stored in 8 bits."""
    stored = {tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.INT8}
    ending = ".weight_quantized"
    return {name.removeprefix("export.network.").removesuffix(ending) for name in stored if name.endswith(ending)}


def test_every_convolution_is_quantised_but_those_that_are_kept(model: onnx.ModelProto) -> None:
    convolutions = {name for name, layer in make_network().named_modules() if type(layer).__name__.endswith("Conv2d")}
    assert quantised_layers(quantize(model, scenes(2), ())) == convolutions
    kept = ["backbone.stem", "class_heads.0.pointwise"]
    found = quantised_layers(quantize(model, scenes(2), kept))
    assert convolutions - found == {"backbone.stem.conv", "class_heads.0.pointwise"}


def test_decoding_stays_as_it_is(model: onnx.ModelProto) -> None:
    before = Counter(node.op_type for node in model.graph.node)
    quantised = quantize(model, scenes(2), ())
    producers = {output: node for node in quantised.graph.node for output in node.output}
    for node in quantised.graph.node:
        if node.op_type in ("Exp", "NonMaxSuppression", "TopK", "Sigmoid"):
            assert producers[node.input[0]].op_type != "DequantizeLinear" or node.op_type == "Sigmoid", node.name
    after = Counter(node.op_type for node in quantised.graph.node)
    assert (after["Exp"], after["TopK"], after["NonMaxSuppression"]) == (before["Exp"], before["TopK"], 1)


def test_half_precision_halves_the_weights_of_the_network_alone(model: onnx.ModelProto) -> None:
    half = halve(model)
    types = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    weights = [name for name in types if name.startswith("export.network.") and name.endswith("conv.weight")]
    assert len(weights) > 20
    assert {types[name] for name in weights} == {TensorProto.FLOAT16}
    assert half.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT


def test_nothing_left_to_quantise(model: onnx.ModelProto) -> None:
    layers = [name for name, _ in make_network().named_children()]
    with pytest.raises(InputError, match="nothing is left to quantise; keep fewer layers in float"):
        quantize(model, scenes(1), layers)


def test_the_published_detector_in_fewer_bits(real_data: Path, tmp_path: Path) -> None:
    cli = ConfigCLI(CONFIGS / "ssdlite_v2_300_tf_coco.yaml", [])
    predictor = cli.predictor(real_data / "weights" / "ssdlite_mobilenet_v2_coco.npz", "cpu")
    export = cli.task.export()
    calibration = spread_pictures(real_data / "coco" / "train2017", 24, predictor.prepare)
    images = spread_pictures(real_data / "coco" / "val2017", 8, predictor.prepare)
    sizes = {}
    for precision, share, iou in (("fp16", 1.0, 0.98), ("int8", 0.9, 0.85)):
        order = Order(
            export, Form(), predictor.class_names, precision, calibration=calibration if precision == "int8" else None
        )
        path = tmp_path / f"{precision}.onnx"
        agreement = write_verified(OnnxFormat(), order, export, path, images)
        assert isinstance(agreement, Agreement)
        assert agreement.detections >= 20
        assert agreement.same / agreement.detections >= share
        assert agreement.iou > iou
        sizes[precision] = path.stat().st_size
    parameters = sum(np.prod(values.shape) for values in export.parameters())
    assert sizes["fp16"] < 2.2 * parameters
    assert sizes["int8"] < 1.4 * parameters
