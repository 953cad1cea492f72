"""Segmenters as ONNX files: the classes of the network at any batch, nothing that is not needed, and true checks."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx_files import write_onnx
from torch import Tensor, nn

from mbdet.backbones import MobileNetV2, MobileNetV3
from mbdet.backbones.base import TF_MEAN, TF_STD
from mbdet.data.shapes import draw_scene
from mbdet.errors import InputError
from mbdet.export.base import Pair, Precision
from mbdet.export.format import pairs
from mbdet.export.segmentation import SegmentationExport, compare_maps
from mbdet.models import LRASPP, DeepLabV3, Segmenter
from mbdet.predictor import TorchSegmenter
from mbdet.runtime.image import Resizing, read_image
from mbdet.runtime.load import load_file
from mbdet.runtime.onnx import OnnxFile
from mbdet.types import SegmenterOutput
from mbdet.weights import load_weights

NAMES = ("background", "cat", "dog", "gnu")
SIZE = (65, 97)


def scenes(count: int = 3) -> np.ndarray:
    return np.stack([draw_scene(1, 1, index, *SIZE).image for index in range(count)]).transpose(0, 3, 1, 2)


def settled(network: Segmenter) -> Segmenter:
    """Give batch norms real statistics, and let every class win somewhere in the scenes."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    with torch.no_grad():
        network.train()(torch.from_numpy(scenes(8)))
        logits = network.eval()(torch.from_numpy(scenes(8))).logits
        means, spreads = logits.mean((0, 2, 3)), logits.std((0, 2, 3))
        last = network.classifier if isinstance(network, DeepLabV3) else network.high_classifier
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        last.bias -= means
        for layer in [last] if isinstance(network, DeepLabV3) else [last, network.low_classifier]:
            assert isinstance(layer, nn.Conv2d)
            layer.weight *= (2 / spreads)[:, None, None, None]
            assert layer.bias is not None
            layer.bias *= 2 / spreads
    return network


def lraspp() -> Segmenter:
    torch.manual_seed(0)
    backbone = MobileNetV3("small", reduced_tail="segmentation", output_stride=16)
    return settled(LRASPP(backbone, 4, SIZE, channels=16, pool_size=(3, 3), pool_stride=(2, 2)))


def deeplab() -> Segmenter:
    """DeepLabv3+ with an auxiliary head."""
    torch.manual_seed(0)
    backbone = MobileNetV2(0.35, last_channels=None, output_stride=16, padding="same")
    return settled(DeepLabV3(backbone, 4, SIZE, channels=16, low_level="c2_depthwise", aux="c4"))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Segmenter, Path]:
    """Return an LR-ASPP and its file with probabilities."""
    network = lraspp()
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    parity = write_onnx(SegmentationExport(network, "fit"), NAMES, path, scenes(), probabilities=True)
    assert parity.pixels == 4 * SIZE[0] * SIZE[1]  # each image, and the first alone
    assert parity.differing < 10
    assert parity.classes == 4
    assert 0 < parity.probability < 1e-3
    return network, path


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_any_batch_gives_what_the_network_gives(exported: tuple[Segmenter, Path], batch: int) -> None:
    network, path = exported
    images = scenes(batch)
    with torch.no_grad():
        expected = network(torch.from_numpy(images)).logits.softmax(1)
    found = OnnxFile(path).run(images)
    assert {name: values.dtype for name, values in found.items()} == {"classes": np.uint8, "probabilities": np.float32}
    np.testing.assert_allclose(found["probabilities"], expected.numpy(), atol=1e-3)
    assert found["classes"].shape == (batch, *SIZE)
    assert (found["classes"] == expected.argmax(1).numpy()).mean() > 0.999


def test_without_probabilities_the_file_has_the_classes_alone(tmp_path: Path) -> None:
    network = deeplab()
    path = tmp_path / "model.onnx"
    parity = write_onnx(SegmentationExport(network, "stretch"), NAMES, path, scenes())
    assert parity.probability is None
    assert parity.classes > 1
    file = OnnxFile(path)
    found = file.run(scenes(5))
    assert list(found) == ["classes"]
    with torch.no_grad():
        expected = network(torch.from_numpy(scenes(5))).logits.argmax(1).numpy()
    assert (found["classes"] == expected).mean() > 0.999
    model = onnx.load(path)
    assert "Softmax" not in {node.op_type for node in model.graph.node}
    assert not [tensor.name for tensor in model.graph.initializer if "aux" in tensor.name]
    weights = sum(np.prod(tensor.dims) for tensor in model.graph.initializer)
    needed = sum(values.numel() for name, values in network.named_parameters() if "aux" not in name)
    assert weights < 1.1 * needed
    assert {file.name for file in tmp_path.iterdir()} == {"model.onnx", "model.onnx.json"}


def test_the_file_describes_itself(exported: tuple[Segmenter, Path]) -> None:
    model = onnx.load(exported[1])
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["task"] == "segmentation"
    assert json.loads(metadata["class_names"]) == list(NAMES)
    assert list(json.loads(metadata["output"])) == ["classes", "probabilities"]
    assert json.loads(metadata["input"])["size"] == list(SIZE)
    assert {opset.domain for opset in model.opset_import} <= {"", "ai.onnx"}


def maps(probabilities: np.ndarray) -> dict[str, np.ndarray]:
    return {"classes": probabilities.argmax(0).astype(np.uint8), "probabilities": probabilities}


def random_maps() -> np.ndarray:
    logits = torch.randn(4, 6, 7, generator=torch.Generator().manual_seed(0))
    return logits.mul(3).softmax(0).numpy()


def test_a_tie_may_go_either_way_and_is_counted() -> None:
    expected = random_maps()
    expected[:, 2, 3] = [0.4, 0.1, 0.401, 0.099]
    actual = maps(expected)
    actual["classes"] = actual["classes"].copy()
    actual["classes"][2, 3] = 0
    parity = compare_maps([Pair(0, maps(expected), {"classes": actual["classes"]})], "fp32")
    assert (parity.pixels, parity.differing, parity.probability) == (42, 1, None)
    assert str(parity).startswith("97.6190% of 42 pixels, which show 4 classes")


@pytest.mark.parametrize("label", [1, 3, 4, 255])
def test_another_class_is_found_with_its_place(label: int) -> None:
    """Also one that is no better than the tie, and one that does not exist, where the last is the right one."""
    expected = random_maps()
    expected[:, 2, 3] = [0.4, 0.1, 0.401, 0.099] if label < 4 else [0, 0, 0, 1]
    classes = maps(expected)["classes"].copy()
    classes[2, 3] = label
    with pytest.raises(
        InputError, match=rf"output 'classes': row 2, column 3 of comparison image 5 is class {label}, "
    ):
        compare_maps([Pair(5, maps(expected), {"classes": classes})], "fp32")


@pytest.mark.parametrize("value", [0.3, float("nan")])
def test_another_probability_is_found_though_the_class_is_the_same(value: float) -> None:
    expected = random_maps()
    expected[:, 2, 3] = [0.6, 0.2, 0.1, 0.1]
    probabilities = expected.copy()
    probabilities[1, 2, 3] = value
    actual = {"classes": maps(expected)["classes"], "probabilities": probabilities}
    message = "output 'probabilities': class 1, row 2, column 3 of comparison image 0 is"
    with pytest.raises(InputError, match=message):
        compare_maps([Pair(0, maps(expected), actual)], "fp32")


@pytest.mark.parametrize(("precision", "moved"), [("fp16", 0.008), ("int8", 0.08)])
def test_fewer_bits_explain_what_they_do_to_probabilities_on_average(precision: Precision, moved: float) -> None:
    """Of a file with the right classes: some of each winner's probability is another's, in sum twice as much."""
    expected = random_maps()
    expected[:, :3] = np.array([0.7, 0.1, 0.1, 0.1])[:, None, None]
    expected[:, 3:] = np.array([0.1, 0.7, 0.1, 0.1])[:, None, None]

    def shifted(amount: float) -> Pair:
        probabilities = expected.copy()
        probabilities[0, :3] -= amount
        probabilities[1, 3:] -= amount
        probabilities[3] += amount
        actual = {"classes": maps(expected)["classes"], "probabilities": probabilities}
        return Pair(2, maps(expected), actual)

    assert compare_maps([shifted(moved)], precision).probability == pytest.approx(moved, abs=1e-6)
    message = rf"'probabilities': those of comparison image 2 differ by {4 * moved:.2f} on average, .* {precision} expl"
    with pytest.raises(InputError, match=message):
        compare_maps([shifted(2 * moved)], precision)
    with pytest.raises(InputError, match="'probabilities': those of comparison image 2 differ by nan on average"):
        compare_maps([shifted(float("nan"))], precision)


class Plain(Segmenter):
    """A segmenter that is quickly exported: one convolution, whose first class always wins."""

    def __init__(self) -> None:
        super().__init__()
        self.num_classes, self.input_size = 4, SIZE
        self.conv = nn.Conv2d(3, 4, 1)
        with torch.no_grad():
            self.conv.weight.mul_(0.005)
            self.conv.bias.copy_(torch.tensor([5.0, 0, 0, 0]))  # type: ignore[union-attr]  # it has a bias

    def from_features(self, features: dict[str, Tensor], size: Sequence[int]) -> SegmenterOutput:
        raise AssertionError("never called: its forward needs no features")

    def forward(self, images: Tensor) -> SegmenterOutput:
        return SegmenterOutput(self.conv(images.float()), None)


class Wrong(Plain):
    """What is exported has another weight than what computes."""

    def forward(self, images: Tensor) -> SegmenterOutput:
        logits = super().forward(images).logits
        return SegmenterOutput(logits * 1.1 if torch.compiler.is_exporting() else logits, None)


def test_maps_of_one_class_alone_are_no_proof(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"the file of before")
    torch.manual_seed(0)
    with pytest.raises(InputError, match="output 'probabilities': class 0, row 0, column 0 of comparison image 0 is"):
        write_onnx(SegmentationExport(Wrong(), "stretch"), NAMES, path, scenes(), probabilities=True)
    with pytest.raises(InputError, match="one class alone in the comparison images, so the exported file cannot be"):
        write_onnx(SegmentationExport(Plain(), "stretch"), NAMES, path, scenes())
    assert path.read_bytes() == b"the file of before"
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    parity = write_onnx(SegmentationExport(Plain(), "stretch"), NAMES, path, scenes(), probabilities=True)
    assert "which show 1 class (" in str(parity)


@pytest.mark.parametrize(
    ("resizing", "expected"),
    [
        ("stretch", {"resize": "stretch"}),
        ("fit", {"resize": "fit", "position": "top left", "padding_color": [124, 116, 104]}),
        ("pad", {"resize": "pad", "position": "top left", "padding_color": [124, 116, 104]}),
    ],
)
def test_the_file_brings_pictures_to_its_input_as_the_network_does(
    resizing: Resizing, expected: dict[str, object], tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    torch.manual_seed(0)
    network = Plain()
    write_onnx(SegmentationExport(network, resizing), NAMES, path, scenes(1), probabilities=True)
    assert expected.items() <= OnnxFile(path).input.items()
    ours, theirs = TorchSegmenter(network, NAMES, resizing, device="cpu"), load_file(path, "cpu")
    assert theirs.preparation == ours.preparation
    for size in ((40, 31), (65, 97), (50, 203)):
        picture = draw_scene(2, 1, 0, *size).image
        expected_map, found = ours(picture), theirs(picture)
        np.testing.assert_array_equal(found.classes, expected_map.classes)
        np.testing.assert_allclose(found.scores, expected_map.scores, atol=1e-5)
        kept = theirs(picture, float(np.median(found.scores)))
        assert 0.3 < (kept.classes == 255).mean() < 0.7


def test_pairs_cover_every_image_and_the_first_alone(exported: tuple[Segmenter, Path]) -> None:
    network, path = exported
    export = SegmentationExport(network, "fit").eval()
    file = OnnxFile(path, "cpu")
    assert [pair.image for pair in pairs(export, file, scenes())] == [0, 1, 2, *([0] if file.batch is None else [])]


def test_published_weights_give_the_same_maps_of_real_pictures(real_data: Path, tmp_path: Path) -> None:
    """Google's DeepLabv3 on MobileNetV2 at its own size: not a pixel differs but where two classes are as likely."""
    backbone = MobileNetV2(last_channels=None, output_stride=8, padding="same", bn_eps=1e-3, mean=TF_MEAN, std=TF_STD)
    network = DeepLabV3(backbone, 21, rates=())
    load_weights(network, real_data / "weights" / "deeplabv3_mnv2_pascal_trainval.npz")
    names = tuple(f"class {number}" for number in range(21))
    segmenter = TorchSegmenter(network, names, "fit", device="cpu")
    files = [real_data / "coco" / "val2017" / f"{number:012}.jpg" for number in (20992, 25603)]
    images = np.stack([segmenter.prepare(read_image(file)) for file in files]).transpose(0, 3, 1, 2)
    path = tmp_path / "deeplab.onnx"
    parity = write_onnx(SegmentationExport(network, "fit"), names, path, images)
    assert parity.differing <= 5
    segmenter_file = load_file(path, "cpu")
    for file in files:
        expected, actual = segmenter(file), segmenter_file(file)
        assert actual.classes.shape == expected.classes.shape
        assert (actual.classes != expected.classes).sum() <= 5
        assert (expected.classes == 15).mean() > 0.05  # people
