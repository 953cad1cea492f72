import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx_files import write_onnx

from mbdet.backbones import MobileNetV2
from mbdet.data.shapes import draw_scene
from mbdet.errors import InputError
from mbdet.export.base import Form
from mbdet.export.detection import DetectionExport
from mbdet.export.format import pairs
from mbdet.models import SSDFPN, Detector, SSDLite
from mbdet.ops import AnchorConfig, Postprocess
from mbdet.runtime.onnx import OnnxFile

NAMES = ("cat", "dog", "gnu")
SIZE = (96, 128)


def make_network(padding: str = "symmetric", layout: str = "tf") -> SSDLite:
    torch.manual_seed(0)
    network = SSDLite(
        MobileNetV2(0.35, scale_last=True, padding=padding),  # type: ignore[arg-type]
        num_classes=3,
        input_size=SIZE,
        extra_channels=(64, 32, 32, 32),
        anchors=AnchorConfig(layout=layout),  # type: ignore[arg-type]
        padding=padding,  # type: ignore[arg-type]
    )
    settle(network)
    for head in [*network.box_heads, *network.class_heads]:
        torch.nn.init.normal_(head.pointwise.weight, std=0.15)  # type: ignore[union-attr,arg-type]
    return network


def settle(network: Detector) -> None:
    """Give the batch norms real statistics, so that scores spread and boxes differ as in a trained network."""
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None
    with torch.no_grad():
        network.train()(torch.from_numpy(scenes(8, network.input_size)))
    network.eval()


def scenes(count: int = 4, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.stack([draw_scene(1, 1, index, *size).image for index in range(count)]).transpose(0, 3, 1, 2)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[SSDLite, Path]:
    network = make_network()
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    parity = write_onnx(DetectionExport(network, Postprocess()), NAMES, path, scenes())
    assert parity.detections > 50
    return network, path


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_any_batch_gives_what_the_network_gives(exported: tuple[SSDLite, Path], batch: int) -> None:
    network, path = exported
    images = np.random.default_rng(batch).integers(0, 256, (batch, 3, *SIZE), dtype=np.uint8)
    with torch.no_grad():
        expected = DetectionExport(network, Postprocess())(torch.from_numpy(images), Form())
    found = OnnxFile(path).run(images)
    np.testing.assert_array_equal(found["counts"], expected["counts"].numpy())
    np.testing.assert_allclose(found["scores"], expected["scores"].numpy(), atol=1e-4)
    np.testing.assert_array_equal(found["labels"], expected["labels"].numpy())
    np.testing.assert_allclose(found["boxes"], expected["boxes"].numpy(), atol=1e-2)
    assert found["counts"].min() > 0


def test_the_file_is_alone_and_describes_itself(exported: tuple[SSDLite, Path]) -> None:
    _, path = exported
    assert {file.name for file in path.parent.iterdir()} == {"model.onnx", "model.onnx.json"}
    session = onnxruntime.InferenceSession(path)
    (image,) = session.get_inputs()
    assert (image.name, image.type, image.shape[1:]) == ("images", "tensor(uint8)", [3, *SIZE])
    assert isinstance(image.shape[0], str)
    assert [output.name for output in session.get_outputs()] == ["boxes", "scores", "labels", "counts"]
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["class_names"]) == list(NAMES)
    assert json.loads(metadata["input"])["size"] == list(SIZE)
    assert {opset.domain for opset in onnx.load(path).opset_import} <= {"", "ai.onnx"}
    assert b"mbdet/models" not in path.read_bytes()  # nor where the code that it was made from lies


@pytest.mark.parametrize(("padding", "layout"), [("same", "torchvision")])
def test_other_conventions_export(tmp_path: Path, padding: str, layout: str) -> None:
    export = DetectionExport(make_network(padding, layout), Postprocess(max_per_class=7))
    parity = write_onnx(export, NAMES, tmp_path / "m.onnx", scenes())
    assert parity.detections > 0


def test_a_pyramid_exports(tmp_path: Path) -> None:
    """Its coarser maps are repeated to odd sizes, and its convolutions serve several maps."""
    torch.manual_seed(0)
    network = SSDFPN(MobileNetV2(0.35), 3, (100, 132), neck_channels=16, tower_channels=16, tower_layers=2)
    settle(network)
    for head in (network.box_head, network.class_head):
        torch.nn.init.normal_(head.last.weight, std=1.0)
    parity = write_onnx(
        DetectionExport(network, Postprocess()), NAMES, tmp_path / "m.onnx", scenes(4, network.input_size)
    )
    assert parity.detections > 50


@pytest.mark.parametrize(("amount", "name"), [(3.0, "boxes"), (0.1, "scores"), (1, "labels")])
def test_a_difference_is_found_and_named(
    exported: tuple[SSDLite, Path], monkeypatch: pytest.MonkeyPatch, amount: float, name: str
) -> None:
    network, path = exported
    file, run = OnnxFile(path), OnnxFile(path).run

    def changed(images: np.ndarray) -> dict[str, np.ndarray]:
        found = run(images)
        return {**found, name: found[name] + np.array(amount, found[name].dtype)}

    monkeypatch.setattr(file, "run", changed)
    export = DetectionExport(network, Postprocess()).eval()
    with pytest.raises(InputError, match=f"output '{name}'"):
        export.compare(pairs(export, file, scenes()), "fp32")


@pytest.mark.parametrize("twice", [True, False], ids=["one found twice", "another one"])
@pytest.mark.parametrize("threshold", [0.01, 0.999])
def test_what_the_file_finds_beyond_the_network_is_found(
    exported: tuple[SSDLite, Path], monkeypatch: pytest.MonkeyPatch, twice: bool, threshold: float
) -> None:
    """Also where the network finds nothing at all, as with the high threshold."""
    network, path = exported
    file = OnnxFile(path)
    export = DetectionExport(network, Postprocess(score_threshold=threshold)).eval()

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad():
            found = {name: values.numpy() for name, values in export(torch.from_numpy(images), Form()).items()}
        copied = twice and (found["counts"] > 0).all()
        box = np.array([[[10, 10, 50, 50]]], np.float32).repeat(len(images), 0)
        best = found["scores"][:, :1], found["labels"][:, :1]
        first = {
            "boxes": found["boxes"][:, :1] if copied else box,
            "scores": best[0] if copied else np.ones_like(best[0]),
            "labels": best[1] if copied else np.zeros_like(best[1]),
        }
        longer = {name: np.concatenate([values, found[name]], 1) for name, values in first.items()}
        return {**longer, "counts": found["counts"] + 1}

    monkeypatch.setattr(file, "run", run)
    with pytest.raises(InputError, match=r"output 'counts': .* of the file has no counterpart in the checkpoint"):
        export.compare(pairs(export, file, scenes()), "fp32")


def test_a_file_that_is_not_right_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"the file of before")
    with pytest.raises(InputError, match="finds nothing in the comparison images"):
        write_onnx(DetectionExport(make_network(), Postprocess(score_threshold=1.0)), NAMES, path, scenes())
    assert path.read_bytes() == b"the file of before"
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
