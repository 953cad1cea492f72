import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def figures_of(script: str, root: Path, devices: int, folder: Path) -> dict[str, Any]:
    """Run a script of this folder on some processes."""
    output = folder / f"{devices}.json"
    command = [sys.executable, str(Path(__file__).with_name(script)), str(root), str(devices), str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240, cwd=folder)
    assert done.returncode == 0, done.stderr
    figures: dict[str, Any] = json.loads(output.read_text())
    return figures


def test_two_processes_give_the_figures_of_one(shapes: Path, tmp_path: Path) -> None:
    one, two = (figures_of("ddp_detection_script.py", shapes, devices, tmp_path) for devices in (1, 2))
    assert two == one  # 5 images: the second process pads with one that the first has seen
    assert one["AP"] == pytest.approx(0.5, abs=0.35)


@pytest.mark.slow
def test_two_processes_classify_like_one(image_folder: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(image_folder, tmp_path / "folders"))
    (root / "val" / "square" / "1.png").unlink()  # 5 images, likewise
    one, two = (figures_of("ddp_classification_script.py", root, devices, tmp_path) for devices in (1, 2))
    assert two == one
    assert [one["per_class"][name]["images"] for name in ("circle", "square", "triangle")] == [2, 1, 2]
    assert 0.2 < one["top1"] < 0.9
    assert one["top5"] == 1.0


@pytest.mark.slow
def test_two_processes_segment_like_one(shapes: Path, tmp_path: Path) -> None:
    one, two = (figures_of("ddp_segmentation_script.py", shapes / "VOC", devices, tmp_path) for devices in (1, 2))
    assert two == one
    assert 0.2 < one["mIoU"] < 0.8
    assert sum(figures["pixels"] for figures in one["per_class"].values()) > 5 * 100 * 100


@pytest.mark.slow
def test_two_processes_train_both_heads(shapes: Path, tmp_path: Path) -> None:
    one, two = (figures_of("ddp_multitask_script.py", shapes, devices, tmp_path) for devices in (1, 2))
    assert (one["steps"], two["steps"]) == (4, 2)  # 8 images with boxes, 2 per process and step
    # Nothing was learnt, at a rate of 0, but the statistics of batch norms, so the pixels of all images count once.
    pixels = [sum(of["pixels"] for of in figures["per_class"].values() if of["pixels"]) for figures in (one, two)]
    assert pixels[0] == pixels[1] > 5 * 100 * 100
    assert sum(of["objects"] or 0 for of in two["per_class"].values()) == sum(
        of["objects"] or 0 for of in one["per_class"].values()
    )
    for name in ("AP", "AR100", "mIoU", "pixel_accuracy", "fwIoU"):
        assert two["untrained"][name] == pytest.approx(one["untrained"][name], abs=1e-4)
    for figures in (one, two):
        assert figures["val_loss"] == pytest.approx(figures["val_loss_detection"] + figures["val_loss_segmentation"])
