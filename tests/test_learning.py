"""Whole trainings on real input, through the documented commands. Minutes each, hence marked slow."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mbdet.cli import main

REPOSITORY = Path(__file__).parents[1]
CONFIGS = REPOSITORY / "configs"


def best_ap(run: Path) -> float:
    with (run / "metrics.csv").open() as file:
        return max(float(row["AP"]) for row in csv.DictReader(file) if row["AP"])


@pytest.mark.slow
def test_quick_start_reaches_its_ap(tmp_path: Path) -> None:
    command = [sys.executable, str(REPOSITORY / "tools" / "train.py"), str(CONFIGS / "ssdlite_v2_shapes.yaml")]
    started = time.monotonic()
    done = subprocess.run(
        [*command, "--trainer.accelerator=cpu"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    print(f"{time.monotonic() - started:.0f} s")
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / "ssdlite_v2_shapes"
    assert best_ap(run) >= 0.5
    for said in ("checkpoints/best.ckpt", "metrics.csv", "predictions.jpg"):
        assert str(Path("runs/ssdlite_v2_shapes") / said) in done.stdout


@pytest.mark.slow
def test_overfits_sixteen_real_images(real_data: Path, tmp_path: Path) -> None:
    """From the ImageNet features to AP > 0.9 on the very images it is trained on: everything is in its right place."""
    source = real_data / "coco" / "annotations" / "instances_train2017.json"
    content = json.loads(source.read_text())
    # Every object must be large enough to be seen at 320 x 320; what is learnt is the way from pixels to boxes.
    sizes = {image["id"]: image["height"] * image["width"] for image in content["images"]}
    boxes: dict[int, list[float]] = {}
    crowded = {annotation["image_id"] for annotation in content["annotations"] if annotation["iscrowd"]}
    for annotation in content["annotations"]:
        _, _, width, height = annotation["bbox"]
        boxes.setdefault(annotation["image_id"], []).append(width * height / sizes[annotation["image_id"]])
    chosen = [number for number, areas in boxes.items() if number not in crowded and min(areas) > 0.01][:16]
    content["images"] = [image for image in content["images"] if image["id"] in chosen]
    content["annotations"] = [item for item in content["annotations"] if item["image_id"] in chosen]
    assert len(content["images"]) == 16

    root = tmp_path / "coco16"
    (root / "annotations").mkdir(parents=True)
    (root / "annotations" / "instances_all.json").write_text(json.dumps(content))
    (root / "all").symlink_to(real_data / "coco" / "train2017")
    run = tmp_path / "run"
    weights = real_data / "weights" / "torch_mobilenet_v2_imagenet_features.npz"
    options = [
        f"--data.root={root}",
        "--data.train_split=all",
        "--data.val_split=all",
        "--data.batch_size=16",  # all at once, so that batch norm sees in training what it sees in evaluation
        "--data.num_workers=1",
        "--data.augmentation=null",
        f"--model.backbone_weights={weights}",
        "--model.optimizer=torch.optim.AdamW",
        "--model.optimizer.lr=0.002",
        "--model.optimizer.weight_decay=0.0",
        "--model.warmup_steps=20",
        "--model.network.class_bias_init=-4.6",
        # The statistics must follow within a hundred steps; TF's constant is made for hundreds of thousands.
        "--model.network.bn_momentum=0.1",
        "--model.loss.normalize_by_code_size=false",
        "--trainer.callbacks=null",
        "--trainer.accelerator=cpu",
        "--trainer.precision=32-true",
        "--trainer.max_epochs=100",
        "--trainer.check_val_every_n_epoch=50",
        "--trainer.enable_progress_bar=false",
    ]
    assert main(["train", str(CONFIGS / "ssdlite_v2_coco.yaml"), "--run_dir", str(run), *options]) == 0
    assert best_ap(run) > 0.9


@pytest.mark.slow
def test_a_killed_training_resumes_and_finishes(real_data: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(REPOSITORY / "tools" / "train.py"), str(CONFIGS / "ssdlite_v2_coco.yaml")]
    options = ["--data.root", str(real_data / "coco"), "--trainer.max_epochs", "2", "--trainer.accelerator", "cpu"]
    quick = ["--data.batch_size", "16", "--data.num_workers", "1", "--trainer.log_every_n_steps", "1"]
    run = tmp_path / "runs" / "ssdlite_v2_coco"
    process = subprocess.Popen([*command, *options, *quick], cwd=tmp_path, start_new_session=True)
    try:
        while not (run / "checkpoints" / "last.ckpt").exists():
            assert process.poll() is None, "the training ended before its first checkpoint"
            time.sleep(0.2)
        time.sleep(8)  # into the middle of the second epoch, of 20 steps of about a second
        assert process.poll() is None, "the training ended before it could be killed"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    with (run / "metrics.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0"]

    done = subprocess.run(
        [*command, *options, *quick, "--resume"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert [row["step"] for row in rows] == ["20", "40"]
    assert not (tmp_path / "runs" / "ssdlite_v2_coco-2").exists()


@pytest.mark.slow
def test_two_processes_train_and_score_like_one(tiny: list[str], tmp_path: Path) -> None:
    config = str(CONFIGS / "ssdlite_v2_shapes.yaml")
    data = [option for option in tiny if not option.startswith("--trainer")]
    data += [f"--data.root={tmp_path / 'shapes'}", "--data.num_train=64"]
    command = [sys.executable, str(REPOSITORY / "tools" / "train.py"), config, "--run_dir", "run", *data]
    trainer = [option for option in tiny if option.startswith("--trainer")]
    parallel = ["--trainer.devices=2", "--trainer.strategy=ddp", "--data.batch_size=2", "--model.warmup_steps=10"]
    # As long as it takes for figures that are more than zeros.
    parallel += ["--trainer.max_epochs=6", "--trainer.check_val_every_n_epoch=6"]
    done = subprocess.run(
        [*command, *trainer, *parallel], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    # The second process writes nothing of its own.
    assert {path.name for path in tmp_path.iterdir()} == {"run", "shapes"}
    with (tmp_path / "run" / "metrics.csv").open() as file:
        *_, row = csv.DictReader(file)
    figures = tmp_path / "figures.json"
    weights = str(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert main(["evaluate", config, "--weights", weights, "--json", str(figures), *data]) == 0
    assert float(row["AP"]) > 0.001
    for name in ("AP", "AP50", "AP75"):
        assert json.loads(figures.read_text())[name] == pytest.approx(float(row[name]), rel=1e-4, abs=1e-9)
