"""ExecuTorch files of networks whose backbone is tiny, because every operator costs the exporter time."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("executorch")

from mbdet.backbones import Backbone, FeatureSpec
from mbdet.backbones.base import TF_MEAN, TF_STD, Normalize
from mbdet.backbones.blocks import ConvBNAct, ConvConfig, SqueezeExcite, depthwise
from mbdet.commands.export import spread_pictures
from mbdet.config import ConfigCLI
from mbdet.data.shapes import draw_scene
from mbdet.errors import InputError
from mbdet.export.base import Export, Form, Precision
from mbdet.export.classification import ClassificationExport
from mbdet.export.detection import DetectionExport
from mbdet.export.executorch import ExecuTorchFormat, trace
from mbdet.export.format import Order, write_verified
from mbdet.export.multitask import MultiTaskExport
from mbdet.export.segmentation import SegmentationExport
from mbdet.models import SSDFPN, Classifier, DeepLabV3, MultiTask, SSDLite
from mbdet.ops import AnchorConfig, Postprocess
from mbdet.runtime.executorch import ExecuTorchFile
from mbdet.runtime.load import load_file
from mbdet.testing import settle

NAMES = ("cat", "dog", "gnu")
SIZE = (64, 96)
CONFIGS = Path(__file__).parents[2] / "configs"


class Tiny(Backbone):
    """Two maps, by all that MobileNets consist of."""

    def __init__(self) -> None:
        super().__init__()
        self.specs = {"c4_expand": FeatureSpec(16, 8), "c5": FeatureSpec(24, 16)}
        config = ConvConfig(padding="same")
        self.normalize = Normalize(TF_MEAN, TF_STD)
        self.stem = ConvBNAct(3, 16, config, kernel_size=3, stride=4)
        self.depthwise = depthwise(16, config, stride=2, act="hard_swish")
        self.gate = SqueezeExcite(16, 8)
        self.down = ConvBNAct(16, 24, config, kernel_size=3, stride=2)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        fine = self.depthwise(self.stem(self.normalize(images)))
        fine = fine + self.gate(fine)
        return {"c4_expand": fine, "c5": self.down(fine)}


def scenes(count: int = 4) -> np.ndarray:
    return np.stack([draw_scene(1, 1, index, *SIZE).image for index in range(count)]).transpose(0, 3, 1, 2)


def make_export(task: str) -> Export:  # type: ignore[type-arg]
    torch.manual_seed(0)
    detector = partial(SSDLite, num_classes=3, input_size=SIZE, extra_channels=(), anchors=AnchorConfig())
    segmenter = partial(DeepLabV3, num_classes=3, input_size=SIZE, channels=16, rates=())
    network = {
        "detection": lambda: detector(Tiny()),
        "segmentation": lambda: segmenter(Tiny()),
        "classification": lambda: Classifier(Tiny(), 3, SIZE),
        "multitask": lambda: MultiTask(Tiny(), detector, segmenter),
    }[task]()
    settle(network)
    for name, layer in network.named_modules():  # scores that spread, and maps of several classes
        if name.endswith(("pointwise", "classifier", "logits")) and isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.normal_(layer.weight, std=0.5)
    network.eval()
    if task == "detection":
        return DetectionExport(network, Postprocess())
    if task == "segmentation":
        return SegmentationExport(network, "fit")
    if task == "classification":
        return ClassificationExport(network, 0.875)
    return MultiTaskExport(network, Postprocess(), NAMES)


def make_order(export: Export, precision: Precision = "fp32", **options: object) -> Order:  # type: ignore[type-arg]
    calibration = scenes(8) if precision == "int8" else None
    form = Form(nms=False, probabilities=precision == "fp32")
    return Order(export, form, NAMES, precision, calibration=calibration, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("task", ["classification", "multitask"])
def test_a_file_gives_what_the_network_gives(task: str, tmp_path: Path) -> None:
    export, path = make_export(task), tmp_path / "m.pte"
    parity = write_verified(ExecuTorchFormat(), make_order(export), export, path, scenes())
    assert parity is not None
    assert {file.name for file in tmp_path.iterdir()} == {"m.pte", "m.pte.json"}
    described = json.loads((tmp_path / "m.pte.json").read_text())
    assert described["parity"]["agrees_on"] == str(parity)
    assert described["input"]["dtype"] == "uint8"
    undelegated = described["undelegated"]
    assert all(count > 0 for count in undelegated.values())
    assert "aten::convolution" not in undelegated
    assert "aten::argmax" in undelegated or task != "multitask"
    path.with_name("m.pte.json").unlink()  # not needed to use it
    predictor = load_file(path)
    assert predictor.class_names == NAMES
    picture = draw_scene(1, 1, 0, 50, 70).image
    (found,) = predictor.predict(predictor.prepare(picture)[None].transpose(0, 3, 1, 2), np.array([(50, 70)]))
    assert found is not None


def test_half_precision_is_the_networks_alone(tmp_path: Path) -> None:
    export, path = make_export("detection"), tmp_path / "m.pte"
    traced = trace(make_order(export, "fp16"))
    assert {values.dtype for _, values in traced.named_parameters()} == {torch.float16}
    assert {values.dtype for name, values in traced.constants.items() if "anchors" in name} == {torch.float32}
    write_verified(ExecuTorchFormat(), make_order(export, "fp16"), export, path, scenes())
    assert next(export.network.parameters()).dtype == torch.float32
    found = ExecuTorchFile(path).run(scenes(2))
    expected = export(torch.from_numpy(scenes(2)), Form())
    for name in ("boxes", "scores"):
        assert found[name].dtype == np.float32
        # More digits than half precision has of such numbers: they are not results of it.
        assert not np.array_equal(found[name], found[name].astype(np.float16).astype(np.float32))
    np.testing.assert_allclose(found["scores"][:, 0], expected["scores"][:, 0].detach(), atol=0.05)


def test_integers_are_the_networks_alone(tmp_path: Path) -> None:
    """Also where the images that it learns from have their channels last, as pictures do."""
    export, path = make_export("segmentation"), tmp_path / "m.pte"
    order = make_order(export, "int8")
    assert order.calibration is not None
    assert not order.calibration.flags.c_contiguous
    parity = write_verified(ExecuTorchFormat(), order, export, path, scenes())
    assert parity is not None
    quantized = layers_with(trace(order).graph_module)
    assert {"backbone.stem", "backbone.down", "projection", "classifier"} <= quantized
    assert "backbone.normalize" not in quantized


@pytest.mark.parametrize("kept", [["backbone.down"], ["backbone.stem.conv", "classifier"]])
def test_layers_stay_in_float(kept: list[str]) -> None:
    export = make_export("segmentation")
    quantized = layers_with(trace(make_order(export, "int8", float_layers=kept)).graph_module)
    assert {"backbone.stem", "backbone.down", "classifier"} - quantized == {name.removesuffix(".conv") for name in kept}
    assert "backbone.depthwise" in quantized


def layers_with(graph: torch.fx.GraphModule) -> set[str]:
    """Return the layers whose convolution has integers for weights."""
    found = set[str]()
    for node in graph.graph.nodes:
        if "conv2d" in str(node.target) and "dequantize_per_channel" in str(node.args[1].target):
            layer = [scope for scope, _ in node.meta["nn_module_stack"].values()][-1]
            found.add(layer.removeprefix("export.network.").removesuffix(".conv"))
    return found


def test_nothing_is_left_to_quantise() -> None:
    export = make_export("classification")
    with pytest.raises(InputError, match="nothing is left to quantise; keep fewer layers in float"):
        trace(make_order(export, "int8", float_layers=["backbone", "logits"]))


def test_an_operator_that_it_lacks_is_named(tmp_path: Path) -> None:
    export = make_export("detection")
    order = Order(export, Form(nms=True), NAMES)
    with pytest.raises(InputError, match=r"ExecuTorch's converter refuses the network \(.*mbdet::nms_mask"):
        ExecuTorchFormat().write(order, tmp_path / "m.pte")


def make_pyramid() -> DetectionExport:
    """Return a detector whose two levels share all weights but those of their batch norms."""
    torch.manual_seed(0)
    network = SSDFPN(
        Tiny(), 3, SIZE, ("c4_expand", "c5"), extra_levels=0, neck_channels=8, tower_channels=8, tower_layers=1
    )
    settle(network)
    for norm in network.towers[0][0].bns:
        torch.nn.init.uniform_(norm.bias)
    for head in (network.box_head, network.class_head):
        torch.nn.init.normal_(head.last.weight, std=0.5)
    return DetectionExport(network, Postprocess()).eval()


@pytest.mark.parametrize(("precision", "pixels", "score"), [("fp32", 1e-3, 1e-3), ("int8", 4, 0.05)])
def test_levels_that_share_a_convolution_keep_their_batch_norms(
    precision: Precision, pixels: float, score: float, tmp_path: Path
) -> None:
    """XNNPACK would fold the norm of one level into what all share."""
    export = make_pyramid()
    ExecuTorchFormat().write(make_order(export, precision), tmp_path / "m.pte")
    found = ExecuTorchFile(tmp_path / "m.pte").compute(scenes(1))
    expected = export(torch.from_numpy(scenes(1)), Form(nms=False))
    np.testing.assert_allclose(found["anchor_boxes"], expected["anchor_boxes"].detach(), atol=pixels)
    np.testing.assert_allclose(found["class_scores"], expected["class_scores"].detach(), atol=score)


def test_every_level_that_shares_a_head_is_quantised() -> None:
    """The quantiser by itself would take the first level alone, which XNNPACK cannot load."""
    graph = trace(make_order(make_pyramid(), "int8")).graph_module.graph
    heads = [
        node
        for node in graph.nodes
        if "conv2d" in str(node.target) and "_head" in str([*node.meta.get("nn_module_stack", {}).values()][-1:])
    ]
    assert len(heads) == 2 * 2 * 2  # levels, heads, and depthwise and pointwise
    for node in heads:
        assert "dequantize_per_channel" in str(node.args[1].target)
        assert "dequantize_per_tensor" in str(node.args[0].target)


@pytest.mark.slow
def test_published_weights_survive_integers(real_data: Path, tmp_path: Path) -> None:
    """Most of what SSDLite finds in pictures of COCO: random weights would amplify any rounding."""
    cli = ConfigCLI(CONFIGS / "ssdlite_v2_300_tf_coco.yaml")
    predictor = cli.predictor(real_data / "weights" / "ssdlite_mobilenet_v2_coco.npz", device="cpu")
    export = cli.task.export()
    calibration = spread_pictures(real_data / "coco" / "train2017", 16, predictor.prepare)
    images = spread_pictures(real_data / "coco" / "val2017", 8, predictor.prepare)
    order = Order(export, Form(nms=False), predictor.class_names, "int8", calibration=calibration)
    parity = write_verified(ExecuTorchFormat(), order, export, tmp_path / "m.pte", images)
    assert parity.same / parity.detections > 0.85
    assert parity.iou > 0.9
    assert (tmp_path / "m.pte").stat().st_size < 6e6
