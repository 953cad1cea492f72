"""The comparison with torchvision's detector: both sides do the same work, and find the same."""

import sys
from pathlib import Path

import compare_device
import numpy as np
import pytest
import torch
from PIL import Image

from mbdet.commands.export import spread_pictures
from mbdet.config import ConfigCLI
from mbdet.data.shapes import draw_scene
from mbdet.ops import Postprocess
from mbdet.tasks import DetectionTask
from mbdet.weights.coco_slots import UNUSED_COCO_IDS


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.stack([draw_scene(1, 1, index, 320, 320).image for index in range(3)]).transpose(0, 3, 1, 2)


@pytest.fixture(scope="module")
def task() -> ConfigCLI:
    return ConfigCLI(compare_device.CONFIG)


def postprocess_of(cli: ConfigCLI) -> Postprocess:
    assert isinstance(cli.task, DetectionTask)
    return cli.task.postprocess


def test_both_sides_find_the_same(task: ConfigCLI, images: np.ndarray) -> None:
    ours = postprocess_of(task)
    reference, logits = compare_device.make_reference(torch.from_numpy(images).float() / 255, ours)
    assert (reference.score_thresh, reference.nms_thresh) == (ours.score_threshold, ours.iou_threshold)
    assert reference.detections_per_img == ours.max_detections
    assert 0 <= reference.topk_candidates * 80 - ours.max_candidates < 80
    counts = []
    for share in (0.005, 0.015):
        compare_device.set_share(reference, logits, share)
        compare_device.load_ours(task, reference)
        predictor = task.task.predictor("cpu")
        assert compare_device.same_boxes(reference, predictor, images) > 0.97
        theirs, of_ours = compare_device.count_candidates(reference, ours, images)
        pairs = share * logits.shape[1] * 80
        assert of_ours == pytest.approx(min(pairs, ours.max_candidates), rel=0.1)
        assert 0.8 * of_ours < theirs <= 1.02 * of_ours
        found = compare_device.detect_eagerly(reference, list(images.transpose(0, 2, 3, 1)), 0)
        assert not set(found["labels"].tolist()) & set(UNUSED_COCO_IDS)
        counts.append(of_ours)
    assert counts[1] > 2.5 * counts[0]


def test_a_file_that_finds_something_else_is_noticed(task: ConfigCLI, images: np.ndarray) -> None:
    reference, logits = compare_device.make_reference(torch.from_numpy(images).float() / 255, postprocess_of(task))
    compare_device.set_share(reference, logits, 0.02)
    compare_device.load_ours(task, reference)
    with torch.no_grad():
        task.task.network.get_parameter("backbone.stem.conv.weight").mul_(-1)
    assert compare_device.same_boxes(reference, task.task.predictor("cpu"), images) < 0.5


@pytest.mark.parametrize("option", ["--passing=0", "--passing=1", "--rounds=0", "--threads=0"])
def test_options_that_make_no_sense(
    option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["compare_device.py", "--images", "any", "--output", "any", option])
    assert compare_device.main() == 2
    assert "from 1 up, --passing are fractions between 0 and 1" in capsys.readouterr().err


@pytest.mark.slow
def test_one_row_for_each_share(
    tmp_path: Path, images: np.ndarray, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pictures").mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / "pictures" / f"{number}.png")
    options = ["--files", "onnx:fp32", "--rounds=2", "--passing", "0.01", "0.03"]
    folders = ["--images", str(tmp_path / "pictures"), "--output", str(tmp_path / "files")]
    monkeypatch.setattr(sys, "argv", ["compare_device.py", *folders, *options])
    assert compare_device.main() == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines if "onnx:fp32" in line]
    assert [row[0] for row in rows] == ["1.0%", "1.0%", "3.0%", "3.0%"]
    assert min(int(row[-1].rstrip("%")) for row in rows if row[1:3] == ["same", "caps"]) > 97
    assert max(map(len, lines)) <= 120


@pytest.mark.slow
def test_the_share_of_pairs_that_a_trained_network_lets_pass(real_data: Path) -> None:
    """That of Google's SSDLite on MobileNetV2, which the module and the README name."""
    cli = ConfigCLI(compare_device.CONFIG.parent / "ssdlite_v2_300_tf_coco.yaml")
    predictor = cli.predictor(real_data / "weights" / "ssdlite_mobilenet_v2_coco.npz", "cpu")
    images = spread_pictures(real_data / "coco" / "val2017", 100, predictor.prepare)
    shares = []
    for image in images:
        with torch.inference_mode():
            output = cli.task.network(torch.from_numpy(image[None]))
        shares.append(float((postprocess_of(cli).probabilities(output) > 0.001).float().mean()))
    print(f"of the median picture {np.median(shares):.2%}, on average {np.mean(shares):.2%}")
    assert np.median(shares) == pytest.approx(0.08, abs=0.005)
