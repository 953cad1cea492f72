"""TFLite files: what they compute in every precision, what int8 leaves alone, and what the format cannot say."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mbdet.backbones.base import TF_MEAN, TF_STD, Backbone, FeatureSpec, Normalize
from mbdet.backbones.blocks import ConvBNAct, ConvConfig, SqueezeExcite
from mbdet.data.shapes import draw_scene
from mbdet.errors import InputError
from mbdet.export.base import Export, Form, Precision
from mbdet.export.classification import ClassificationExport
from mbdet.export.detection import DetectionExport
from mbdet.export.format import Order, write_verified
from mbdet.export.multitask import MultiTaskExport
from mbdet.export.segmentation import SegmentationExport
from mbdet.models import LRASPP, Classifier, DeepLabV3, MultiTask, SSDLite
from mbdet.ops import Postprocess
from mbdet.runtime.load import load_file, open_file
from mbdet.testing import settle

pytest.importorskip("litert_torch")
from ai_edge_litert.interpreter import Interpreter

from mbdet.export.litert import LiteRTFormat, convert, halve, quantize

NAMES = ("cat", "dog", "gnu")
SIZE = (49, 64)


class Tiny(Backbone):
    """Quickly exported, with all that the MobileNets have: an uneven size padded as TensorFlow does, and a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.specs = {"c3_depthwise": FeatureSpec(8, 2), "c4_expand": FeatureSpec(16, 4), "c5": FeatureSpec(16, 8)}
        config = ConvConfig("same")
        self.normalize = Normalize(TF_MEAN, TF_STD)
        self.fine = ConvBNAct(3, 8, config, 3, 2)
        self.middle = ConvBNAct(8, 16, config, 3, 2, act="hard_swish")
        self.gate = SqueezeExcite(16, 8)
        self.coarse = ConvBNAct(16, 16, config, 3, 2)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        fine = self.fine(self.normalize(images))
        middle = self.middle(fine)
        return {"c3_depthwise": fine, "c4_expand": middle, "c5": self.coarse(self.gate(middle))}


def scenes(count: int = 4) -> np.ndarray:
    return np.stack([draw_scene(1, 1, index, *SIZE).image for index in range(count)]).transpose(0, 3, 1, 2)


def make_export(kind: str) -> Export[Any]:
    torch.manual_seed(0)
    ssd = partial(SSDLite, num_classes=3, input_size=SIZE, extra_channels=())
    lraspp = partial(LRASPP, num_classes=3, input_size=SIZE, channels=8)
    export: Export[Any]
    match kind:
        case "detector":
            export = DetectionExport(ssd(Tiny()), Postprocess())
        case "segmenter":
            export = SegmentationExport(DeepLabV3(Tiny(), 3, SIZE, rates=(), channels=8), "stretch")
        case "classifier":
            export = ClassificationExport(Classifier(Tiny(), 3, SIZE), 0.875)
        case _:
            export = MultiTaskExport(MultiTask(Tiny(), ssd, lraspp), Postprocess(), ("sky", "sea", "land"))
    settle(export.network)
    with torch.no_grad():  # results that spread
        for name, layer in export.network.named_modules():
            if isinstance(layer, nn.Conv2d | nn.Linear) and "backbone" not in name:
                nn.init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)
    return export.eval()


def order_for(export: Export[Any], precision: Precision = "fp32", **more: Any) -> Order:
    calibration = scenes(16) if precision == "int8" else None
    return Order(export, Form(nms=False, probabilities=True), NAMES, precision, calibration=calibration, **more)


@pytest.mark.parametrize(
    ("kind", "outputs"),
    [
        ("detector", {"anchor_boxes": np.float32, "class_scores": np.float32}),
        ("segmenter", {"classes": np.uint8, "probabilities": np.float32}),
        ("classifier", {"probabilities": np.float32}),
        (
            "multitask",
            {
                "anchor_boxes": np.float32,
                "class_scores": np.float32,
                "classes": np.uint8,
                "probabilities": np.float32,
            },
        ),
    ],
)
def test_single_precision_gives_what_the_network_gives(kind: str, outputs: dict[str, type], tmp_path: Path) -> None:
    export, path = make_export(kind), tmp_path / "model.tflite"
    order = order_for(export)
    assert write_verified(LiteRTFormat(), order, export, path, scenes()) is not None
    assert {file.name for file in tmp_path.iterdir()} == {"model.tflite", "model.tflite.json"}
    (image,) = Interpreter(str(path)).get_input_details()
    assert (image["dtype"], image["shape"].tolist()) == (np.uint8, [1, *SIZE, 3])
    file = open_file(path, "cpu")
    assert (file.input["layout"], file.input["dtype"], file.input["name"]) == ("NHWC", "uint8", "images")
    assert file.description["undelegated"]["CAST"] >= 1
    assert "CONV_2D" not in file.description["undelegated"]
    picture = scenes(1)
    found = file.compute(picture)
    assert {name: values.dtype for name, values in found.items()} == outputs
    with torch.no_grad():
        expected = export(torch.from_numpy(picture), order.form)
    for name in outputs.keys() - {"classes"}:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-2 if "boxes" in name else 1e-5)
    assert len(load_file(path, "cpu").predict(scenes(3), np.array([SIZE] * 3))) == 3


@pytest.fixture(scope="module")
def classifier() -> tuple[Export[Any], bytes]:
    """Return a classifier and its file in single precision."""
    export = make_export("classifier")
    return export, convert(order_for(export))


def probabilities(content: bytes) -> np.ndarray:
    run = Interpreter(model_content=content).get_signature_runner()
    rows = [run(images=np.ascontiguousarray(image[None].transpose(0, 2, 3, 1))) for image in scenes()]
    return np.concatenate([row["probabilities"] for row in rows])


def result_types(content: bytes) -> dict[str, list[type]]:
    """Return the types of the results of the operators of each kind, in their order."""
    interpreter = Interpreter(model_content=content)
    types = {tensor["index"]: tensor["dtype"] for tensor in interpreter.get_tensor_details()}
    found: dict[str, list[type]] = {}
    for operator in interpreter._get_ops_details():
        found.setdefault(operator["op_name"], []).append(types[int(operator["outputs"][0])])
    return found


def test_half_precision_is_of_the_weights(classifier: tuple[Export[Any], bytes]) -> None:
    content = classifier[1]
    halved = halve(content)
    details = Interpreter(model_content=halved).get_tensor_details()
    assert np.float16 in [tensor["dtype"] for tensor in details if tensor["shape"].tolist() == [16, 3, 3, 16]]
    assert len(halved) < len(content)
    assert set(result_types(halved)["CONV_2D"]) == {np.float32}
    assert 0 < np.abs(probabilities(halved) - probabilities(content)).max() < 0.01


def test_int8_is_of_the_network_alone(classifier: tuple[Export[Any], bytes]) -> None:
    content = classifier[1]
    quantized = quantize(content, scenes(16), ())
    types = result_types(quantized)
    assert set(types["CONV_2D"]) == set(types["FULLY_CONNECTED"]) == {np.int8}
    assert types["SOFTMAX"] == types["SUB"] == [np.float32]  # the latter is the normalisation
    assert 0 < np.abs(probabilities(quantized) - probabilities(content)).mean() < 0.03


@pytest.mark.parametrize(
    ("kind", "layers", "floats"),
    [
        # The batch norm and the activation after it too, and all that belongs to a gate.
        ("classifier", ("backbone.coarse.conv", "backbone.gate.reduce"), {"CONV_2D": 3}),
        # Layers of the same name and class, but not the same path, stay 8 bits.
        ("detector", ("class_heads.0", "box_heads.1.pointwise"), {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 1}),
    ],
)
def test_layers_that_stay_float(
    kind: str, layers: tuple[str, ...], floats: dict[str, int], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.tflite"
    description = LiteRTFormat().write(order_for(make_export(kind), "int8", float_layers=layers), path)
    assert description["input"]["layout"] == "NHWC"
    assert capfd.readouterr() == ("", "")  # the converter and the quantiser say much that a user cannot act upon
    types = result_types(path.read_bytes())
    for name, count in floats.items():
        assert types[name].count(np.float32) == count
        assert set(types[name]) == {np.float32, np.int8}


def test_a_layer_that_is_no_operator_of_its_own_cannot_stay_float(classifier: tuple[Export[Any], bytes]) -> None:
    with pytest.raises(
        InputError, match=r"--keep_float dropout: LiteRT joins this layer with others, or leaves it out"
    ):
        quantize(classifier[1], scenes(1), ("dropout",))


@pytest.mark.slow
def test_processes_that_follow_are_started_without_a_warning() -> None:
    lines = [
        "import mbdet.export.litert, jax.numpy, os",
        "jax.numpy.zeros(1)",  # as in a conversion, after which JAX has threads
        "os._exit(0) if os.fork() == 0 else os.wait()",
    ]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert done.stderr == ""


@pytest.mark.slow
def test_int8_of_published_weights_finds_what_they_find(real_data: Path, tmp_path: Path) -> None:
    """Google's SSDLite: quantised without care, it finds next to nothing."""
    from mbdet.cli import main

    path = tmp_path / "ssdlite.tflite"
    folder = real_data / "coco"
    options = ["--format", "litert", "--precision", "int8", "--calibration_images", "32", "--output", str(path)]
    config = Path(__file__).parents[2] / "configs" / "ssdlite_v2_300_tf_coco.yaml"
    weights = real_data / "weights" / "ssdlite_mobilenet_v2_coco.npz"
    pictures = ["--calibration", str(folder / "train2017"), "--images", str(folder / "val2017")]
    assert main(["export", str(config), "--weights", str(weights), *options, *pictures]) == 0
    described = json.loads((tmp_path / "ssdlite.tflite.json").read_text())
    assert described["parity"]["share"] > 0.9
    assert described["bytes"] < 6e6
