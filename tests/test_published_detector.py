"""Google's published SSDLite on real images, through the documented commands.

The expected figures come from an independent plain forward pass of the same arrays with the same resize.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mbdet
from mbdet.cli import main

CONFIG = str(Path(__file__).parents[1] / "configs" / "ssdlite_v2_300_tf_coco.yaml")


@pytest.fixture(scope="module")
def weights(real_data: Path) -> Path:
    return real_data / "weights" / "ssdlite_mobilenet_v2_coco.npz"


@pytest.fixture(scope="module")
def exported(weights: Path, real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published") / "ssdlite.onnx"
    images = str(real_data / "coco" / "val2017")
    command = ["export", CONFIG, "--weights", str(weights), "--format", "onnx", "--output", str(path)]
    assert main([*command, "--images", images]) == 0
    return path


def evaluate(weights: Path, root: Path, output: Path) -> dict[str, float]:
    options = ["--weights", str(weights), "--data.root", str(root), "--data.num_workers", "0", "--json", str(output)]
    assert main(["evaluate", CONFIG, *options]) == 0
    figures: dict[str, float] = json.loads(output.read_text())
    return figures


def test_the_checkpoint_and_the_exported_file_have_the_reference_ap(
    weights: Path, exported: Path, real_data: Path, tmp_path: Path
) -> None:
    torch_figures = evaluate(weights, real_data / "coco", tmp_path / "torch.json")
    assert torch_figures["AP"] == pytest.approx(0.2996, abs=0.003)
    assert torch_figures["AP50"] == pytest.approx(0.449, abs=0.004)
    assert torch_figures["AP75"] == pytest.approx(0.3296, abs=0.003)
    assert torch_figures["AR100"] == pytest.approx(0.364, abs=0.003)
    onnx_figures = evaluate(exported, real_data / "coco", tmp_path / "onnx.json")
    assert onnx_figures["AP"] == pytest.approx(torch_figures["AP"], abs=5e-4)


def test_both_draw_the_same_objects_in_pictures_of_any_size(weights: Path, exported: Path, real_data: Path) -> None:
    torch_detector, onnx_detector = mbdet.load(CONFIG, weights), mbdet.load(exported)
    count = 0
    for path in sorted((real_data / "coco" / "val2017").iterdir())[:20]:
        expected, actual = torch_detector(path), onnx_detector(path)
        np.testing.assert_array_equal(actual.labels, expected.labels)
        np.testing.assert_allclose(actual.scores, expected.scores, atol=1e-4)
        np.testing.assert_allclose(actual.boxes, expected.boxes, atol=0.01)
        width, height = Image.open(path).size
        assert (actual.boxes >= 0).all()
        assert (actual.boxes <= [width, height, width, height]).all()
        count += len(actual.boxes)
    assert count > 20
