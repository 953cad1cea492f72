"""The comparison with torchvision's references: the same features on both sides, and every action runs."""

import csv
import json
import math
import subprocess
import sys
from pathlib import Path

import compare_torchvision
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from mbdet.backbones import MobileNetV2
from mbdet.config import ConfigCLI
from mbdet.errors import InputError
from mbdet.testing import settle
from mbdet.weights import load_backbone_weights
from torchvision_reference import detection, segmentation

CONFIGS = Path(__file__).parents[1] / "configs"
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
STREETS = ("sky", "building", "road")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "v2.safetensors"
    save_file(settle(MobileNetV2()).state_dict(), path)
    return str(path)


@pytest.fixture(scope="module")
def streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders in CamVid's layout: images of three coloured bands above a void one; the last is of another size."""
    root = tmp_path_factory.mktemp("streets")
    colours = np.array([[90, 140, 230], [160, 60, 50], [110, 110, 110], [0, 0, 0]], dtype=np.uint8)
    values = np.array([0, 1, 2, 11], dtype=np.uint8)
    for split, sizes in (("train", [(48, 64)] * 4), ("val", [(48, 64), (60, 80)])):
        for folder in (split, f"{split}annot"):
            (root / folder).mkdir()
        for number, (height, width) in enumerate(sizes):
            bands = np.repeat(np.arange(height) * 4 // height, width).reshape(height, width)
            Image.fromarray(colours[bands]).save(root / split / f"{number}.png")
            Image.fromarray(values[bands]).save(root / f"{split}annot" / f"{number}.png")
    return root


def of_detection(shapes: Path) -> list[str]:
    """Return a config and the overrides that make it quick."""
    options = [f"--data.root={shapes / 'VOC'}", f"--data.class_names=[{', '.join(SHAPES)}]", "--data.batch_size=4"]
    return [str(CONFIGS / "ssdlite_v2_bccd.yaml"), *options, "--model.network.num_classes=6", "--data.num_workers=0"]


def of_segmentation(streets: Path) -> list[str]:
    """Return a config and the overrides that make it quick."""
    options = [f"--data.root={streets}", f"--data.class_names=[{', '.join(STREETS)}]", "--data.batch_size=2"]
    options += ["--data.input_size=[48,64]", "--model.network.input_size=[48,64]"]
    return [str(CONFIGS / "lraspp_v2_camvid.yaml"), *options, "--model.network.num_classes=3", "--data.num_workers=0"]


def test_both_detectors_start_from_the_same_features(weights: str) -> None:
    reference = detection.reference_model(3, weights).eval()
    ours = MobileNetV2().eval()
    load_backbone_weights(ours, weights)
    images = torch.randint(256, (1, 3, 320, 320), dtype=torch.uint8)
    with torch.no_grad():
        prepared, _ = reference.transform([images[0] / 255])
        maps = list(reference.backbone(prepared.tensors).values())
        features = ours(images)
    for found, name in zip(maps, ("c4_expand", "c5"), strict=False):
        torch.testing.assert_close(found, features[name], rtol=1e-3, atol=1e-3)  # 255 and 1 round differently
    assert all(parameter.requires_grad for parameter in reference.parameters())


def test_both_segmenters_start_from_the_same_features(weights: str, streets: Path) -> None:
    config, *overrides = of_segmentation(streets)
    reference = compare_torchvision.build(ConfigCLI(Path(config), overrides), weights)
    assert isinstance(reference, segmentation.SegmentationReference)
    reference.model.eval()
    ours = MobileNetV2(output_stride=16).eval()
    load_backbone_weights(ours, weights)
    # torchvision dilates the first block of the last stage too, as only `MobileNetV3` of ours can.
    ours.blocks[13].depthwise.conv.dilation = ours.blocks[13].depthwise.conv.padding = (2, 2)
    batch = next(iter(reference.val_batches))
    with torch.no_grad():
        found = reference.model.backbone(reference.normalize(batch.images))
        features = ours(batch.images)
    assert found["high"].shape[2:] == (3, 4)
    for level, name in (("low", "c3_first"), ("high", "c5")):
        torch.testing.assert_close(found[level], features[name], rtol=1e-3, atol=1e-3)
    assert all(parameter.requires_grad for parameter in reference.model.parameters())


def test_image_and_mask_are_augmented_alike() -> None:
    torch.manual_seed(0)
    transform = segmentation.ReferenceTransform((48, 64))
    mask = np.repeat(np.repeat([[1, 2, 3], [4, 5, 6]], 24, axis=0), 24, axis=1).astype(np.uint8)
    image = np.repeat(mask[..., None] * 40, 3, axis=2)
    seen, padded = set(), []
    for _ in range(20):
        found, classes = transform(image, mask)
        assert found.shape == (48, 64, 3)
        assert classes.shape == (48, 64)
        padding = classes == 255
        assert not found[padding].any()
        assert (np.abs(found[..., 0] - 40.0 * classes)[~padding] < 20).mean() > 0.9  # but for blended edges
        padded.append(padding.any())
        assert padding[-1].any() or padding[:, -1].any() or not padding.any()
        seen.add((classes[0] == np.sort(classes[0])).all())
    assert any(padded)
    assert not all(padded)
    assert len(seen) == 2, "never flipped, or always"


def test_the_segmenter_trains(weights: str, streets: Path, tmp_path: Path) -> None:
    config, *overrides = of_segmentation(streets)
    length = ["--trainer.max_epochs=3", "--trainer.check_val_every_n_epoch=2"]
    compare_torchvision.train(ConfigCLI(Path(config), [*overrides, *length]), weights, tmp_path)
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert all(math.isfinite(float(row["train_loss"])) for row in rows)
    assert [bool(row["mIoU"]) for row in rows] == [False, True, True]
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["per_class"].keys() == set(STREETS)
    assert sum(of["pixels"] for of in figures["per_class"].values()) == (48 * 64 + 60 * 80) * 3 // 4  # without the void
    for name in ("mIoU", "pixel_accuracy"):
        assert float(rows[-1][name]) == pytest.approx(figures[name], abs=1e-4)


def test_a_task_without_a_reference_is_refused(image_folder: Path, tiny_classes: list[str], weights: str) -> None:
    with pytest.raises(InputError, match="has no reference"):
        compare_torchvision.build(ConfigCLI(CONFIGS / "classify_v2.yaml", tiny_classes), weights)


@pytest.mark.slow
@pytest.mark.parametrize(("task", "classes"), [("detection", SHAPES), ("segmentation", STREETS)])
def test_every_action_runs(
    task: str, classes: tuple[str, ...], shapes: Path, streets: Path, weights: str, tmp_path: Path
) -> None:
    options = of_detection(shapes) if task == "detection" else of_segmentation(streets)
    for action, extra in (
        ("train", ["--trainer.max_epochs=1"]),
        ("evaluate", ["--data.val_split=train"]),
        ("time", ["--rounds=1", "--epochs=1"]),
    ):
        command = [sys.executable, compare_torchvision.__file__, action, *options, "--weights", weights, *extra]
        command += [] if action == "time" else ["--output", str(tmp_path / "reference")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert "of torchvision's time" in done.stdout
    with (tmp_path / "reference" / "metrics.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["train_loss"]) > 0
    assert json.loads((tmp_path / "reference" / "figures.json").read_text())["per_class"].keys() == set(classes)
