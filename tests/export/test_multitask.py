"""The file of a multitask network: both heads' outputs from one graph, each compared before the file is kept."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx_files import write_onnx

from mbdet.backbones import MobileNetV2
from mbdet.data.shapes import draw_scene
from mbdet.errors import InputError
from mbdet.export.base import Form, Pair
from mbdet.export.format import pairs
from mbdet.export.multitask import MultiTaskExport
from mbdet.models import LRASPP, MultiTask, SSDLite
from mbdet.ops import Postprocess
from mbdet.runtime.load import FileMultiTask, load_file
from mbdet.runtime.onnx import OnnxFile
from mbdet.testing import settle

SIZE = (96, 128)
OBJECTS, PIXELS = ("cat", "dog"), ("ground", "cat", "dog", "sky")
DETECTION = ["boxes", "scores", "labels", "counts"]


def scenes(count: int = 4) -> np.ndarray:
    return np.stack([draw_scene(1, 1, index, *SIZE).image for index in range(count)]).transpose(0, 3, 1, 2)


@pytest.fixture(scope="module")
def export() -> MultiTaskExport:
    torch.manual_seed(0)
    network = MultiTask(
        MobileNetV2(0.35, scale_last=True),
        partial(SSDLite, num_classes=2, input_size=SIZE, extra_channels=(32, 16)),
        partial(LRASPP, num_classes=4, input_size=SIZE, channels=16),
    )
    settle(network)
    with torch.no_grad():  # maps of several classes, and scores that spread
        for layer in (network.segmenter.low_classifier, network.segmenter.high_classifier):
            torch.nn.init.normal_(layer.weight, std=1.0)
        for head in [*network.detector.box_heads, *network.detector.class_heads]:
            torch.nn.init.normal_(head.pointwise.weight, std=0.15)
    return MultiTaskExport(network.eval(), Postprocess(), PIXELS)


@pytest.fixture(scope="module")
def exported(export: MultiTaskExport, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "both.onnx"
    parity = write_onnx(export, OBJECTS, path, scenes())
    assert parity.detection.detections > 50
    assert parity.segmentation.classes > 2
    assert "detections" in str(parity)
    assert "pixels" in str(parity)
    return path


def test_one_file_has_both(exported: Path, export: MultiTaskExport) -> None:
    model = onnx.load(exported)
    assert [output.name for output in model.graph.output] == [*DETECTION, "classes"]
    metadata = {item.key: item.value for item in model.metadata_props}
    assert json.loads(metadata["class_names"]) == list(OBJECTS)
    assert json.loads(metadata["segment_names"]) == list(PIXELS)
    assert json.loads(metadata["output"])["classes"].startswith("indices into segment_names")
    # One pass of the backbone: as many convolutions as the network has, which holds it once.
    convolutions = sum(node.op_type == "Conv" for node in model.graph.node)
    assert convolutions == sum(isinstance(layer, torch.nn.Conv2d) for layer in export.network.modules())


@pytest.mark.parametrize("batch", [1, 3])
def test_any_batch_gives_what_the_network_gives(exported: Path, export: MultiTaskExport, batch: int) -> None:
    images = scenes(batch)
    with torch.no_grad():
        expected = export(torch.from_numpy(images), Form())
    found = OnnxFile(exported).run(images)
    np.testing.assert_array_equal(found["counts"], expected["counts"])
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-4)
    assert (found["classes"] != expected["classes"].numpy()).mean() < 1e-3


def test_it_serves_pictures_of_any_size(exported: Path) -> None:
    predictor = load_file(exported, "cpu")
    assert isinstance(predictor, FileMultiTask)
    assert (predictor.class_names, predictor.segment_names) == (OBJECTS, PIXELS)
    picture = draw_scene(1, 1, 0, 150, 260).image
    found = predictor(picture, 0.0)
    assert found.segmentation.classes.shape == (150, 260)
    assert found.segmentation.scores is None
    assert found.detections.boxes[:, 2].max() <= 260
    assert found.detections.boxes[:, 2].max() > SIZE[1]


def test_probabilities_on_demand(export: MultiTaskExport, tmp_path: Path) -> None:
    path = tmp_path / "both.onnx"
    write_onnx(export, OBJECTS, path, scenes(2), probabilities=True)
    found = OnnxFile(path).run(scenes(2))
    np.testing.assert_allclose(found["probabilities"].sum(1), 1, atol=1e-5)
    (first, _) = load_file(path, "cpu").predict(scenes(2), np.array([SIZE, SIZE]))
    np.testing.assert_allclose(first.segmentation.scores, found["probabilities"][0].max(0))


@pytest.mark.parametrize(
    ("output", "message"), [("classes", "differs .* in output 'classes'"), ("boxes", "in output 'boxes'")]
)
def test_a_difference_of_either_head_is_named(
    output: str, message: str, exported: Path, export: MultiTaskExport
) -> None:
    def wrong(pair: Pair) -> Pair:
        changed = pair.actual[output] + np.array(1 if output == "classes" else 5, pair.actual[output].dtype)
        return pair._replace(actual={**pair.actual, output: changed})

    with torch.no_grad(), pytest.raises(InputError, match=message):
        export.compare((wrong(pair) for pair in pairs(export, OnnxFile(exported), scenes(2))), "fp32")
