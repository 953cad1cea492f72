"""The comparison with torchvision's reference: the same features on both sides, and every action runs."""

import csv
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import save_file

from mbdet.backbones import MobileNetV2
from mbdet.testing import settle

TOOL = Path(__file__).parents[1] / "tools" / "compare_torchvision.py"
CONFIG = Path(__file__).parents[1] / "configs" / "ssdlite_v2_bccd.yaml"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "v2.safetensors"
    save_file(settle(MobileNetV2()).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    specification = importlib.util.spec_from_file_location("compare_torchvision", TOOL)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_both_sides_start_from_the_same_features(tool: ModuleType, weights: Path) -> None:
    reference = tool.reference_model(3, str(weights)).eval()
    ours = MobileNetV2().eval()
    tool.load_backbone_weights(ours, weights)
    images = torch.randint(256, (1, 3, 320, 320), dtype=torch.uint8)
    with torch.no_grad():
        prepared, _ = reference.transform([images[0] / 255])
        maps = list(reference.backbone(prepared.tensors).values())
        features = ours(images)
    for found, name in zip(maps, ("c4_expand", "c5"), strict=False):
        torch.testing.assert_close(found, features[name], rtol=1e-3, atol=1e-3)  # 255 and 1 round differently
    assert all(parameter.requires_grad for parameter in reference.parameters())


@pytest.mark.slow
def test_every_action_runs(shapes: Path, weights: Path, tmp_path: Path) -> None:
    names = "[circle, square, triangle, star, cross, ring]"
    options = ["--weights", str(weights), f"--data.root={shapes / 'VOC'}", f"--data.class_names={names}"]
    options += ["--model.network.num_classes=6", "--data.batch_size=4", "--data.num_workers=0"]
    for action, extra in (
        ("train", ["--trainer.max_epochs=1"]),
        ("evaluate", ["--data.val_split=train"]),
        ("time", ["--rounds=1", "--epochs=1"]),
    ):
        command = [sys.executable, str(TOOL), action, str(CONFIG), *options, *extra]
        command += [] if action == "time" else ["--output", str(tmp_path / "reference")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert "of torchvision's time" in done.stdout
    with (tmp_path / "reference" / "metrics.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["train_loss"]) > 0
    assert json.loads((tmp_path / "reference" / "figures.json").read_text())["per_class"].keys() == {
        "circle", "square", "triangle", "star", "cross", "ring",
    }  # fmt: skip
