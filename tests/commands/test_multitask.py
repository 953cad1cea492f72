"""The way of a multitask network through the commands: train, evaluate, predict, export, cost."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import mbdet
from mbdet.cli import main
from mbdet.data.mask_files import read_mask
from mbdet.data.shapes import CLASS_NAMES

CONFIGS = Path(__file__).parents[2] / "configs"
CONFIG = str(CONFIGS / "multitask_v2_shapes.yaml")
PIXELS = ("background", *CLASS_NAMES)
NETWORK = ["--model.network.backbone.width_mult=0.35", "--model.network.detector.class_bias_init=0"]
DATA = ["--data.num_train=8", "--data.num_val=5", "--data.num_workers=0", "--data.batch_size=4"]
TRAINER = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.check_val_every_n_epoch=1"]


@pytest.fixture(scope="module")
def data(shapes: Path) -> list[str]:
    return [f"--data.root={shapes}", *DATA, *NETWORK]


@pytest.fixture(scope="module")
def trained(data: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of two epochs."""
    folder = tmp_path_factory.mktemp("runs") / "both"
    assert main(["train", CONFIG, "--run_dir", str(folder), "--trainer.max_epochs=2", *data, *TRAINER]) == 0
    return folder


@pytest.fixture(scope="module")
def exported(trained: Path, data: list[str]) -> Path:
    output = trained / "both.onnx"
    weights = str(trained / "checkpoints" / "best.ckpt")
    assert main(["export", CONFIG, "--weights", weights, "--output", str(output), "--probabilities", *data]) == 0
    return output


def evaluate(weights: Path, data: list[str], output: Path, config: str = CONFIG) -> dict[str, Any]:
    assert main(["evaluate", config, "--weights", str(weights), "--json", str(output), "--device=cpu", *data]) == 0
    content: dict[str, Any] = json.loads(output.read_text())
    return content


def test_the_best_checkpoint_is_that_of_both_heads(trained: Path) -> None:
    header, *rows = [line.split(",") for line in (trained / "metrics.csv").read_text().splitlines()]
    figures = [dict(zip(header, map(float, row), strict=True)) for row in rows]
    assert {"AP_mIoU", "AP", "mIoU", "train_loss_detection", "train_loss_segmentation", "val_loss"} <= set(header)
    (name,) = (trained / "checkpoints").glob("best.ckpt")
    assert name.is_file()
    assert len(figures) == 2
    assert Image.open(trained / "predictions.jpg").width > 1000


def test_one_evaluation_scores_both(trained: Path, data: list[str], tmp_path: Path) -> None:
    figures = evaluate(trained / "checkpoints" / "best.ckpt", data, tmp_path / "figures.json")
    assert {"AP", "AP50", "APs", "AR100", "mIoU", "pixel_accuracy", "fwIoU", "images"} <= figures.keys()
    assert figures["AP_mIoU"] == pytest.approx((figures["AP"] + figures["mIoU"]) / 2)
    assert list(figures["per_class"]) == [*CLASS_NAMES, "background"]
    assert (figures["images"], figures["images_left_out"]) == (5, 0)
    assert len(json.loads((tmp_path / "figures_images.json").read_text())) == 5
    # The records of the objects are COCO's results, as those of a detector.
    annotations = next(Path(option.removeprefix("--data.root=")) for option in data) / "annotations/instances_val.json"
    results = ["--annotations", str(annotations), "--results", str(tmp_path / "figures_detections.json")]
    assert main(["evaluate", *results, "--json", str(tmp_path / "again.json")]) == 0
    assert json.loads((tmp_path / "again.json").read_text())["AP"] == figures["AP"]


def test_the_exported_file_scores_alike_and_names_both(
    trained: Path, exported: Path, data: list[str], tmp_path: Path
) -> None:
    expected = evaluate(trained / "checkpoints" / "best.ckpt", data, tmp_path / "figures.json")
    found = evaluate(exported, data, tmp_path / "onnx.json")
    assert found["AP"] == pytest.approx(expected["AP"], abs=1e-3)
    assert found["mIoU"] == pytest.approx(expected["mIoU"], abs=1e-4)
    predictor: Any = mbdet.load(exported)
    assert (predictor.class_names, predictor.segment_names) == (CLASS_NAMES, PIXELS)


def test_files_of_other_classes_are_refused(
    exported: Path, shapes: Path, data: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = yaml.safe_load(Path(CONFIG).read_text())
    names = ["ground", *CLASS_NAMES]
    content["data"] = {
        "class_path": "mbdet.data.VocMultiTaskDataModule",
        "init_args": {"root": str(shapes / "VOC"), "input_size": [144, 192], "class_names": names, "num_workers": 0},
    }
    config = tmp_path / "mine.yaml"
    config.write_text(yaml.safe_dump(content))
    assert main(["evaluate", str(config), "--weights", str(exported), *NETWORK]) == 2
    assert (
        "class 0 is 'background' in the config, but 'ground' in the data; give segment_names" in capsys.readouterr().err
    )
    assert main(["evaluate", str(CONFIGS / "ssdlite_v2_shapes.yaml"), "--weights", str(exported), *data[:5]]) == 2
    assert "is a multitask network, but" in capsys.readouterr().err


@pytest.mark.parametrize("model", ["best.ckpt", "both.onnx"])
def test_predictions_have_objects_and_classes(
    model: str, trained: Path, exported: Path, shapes: Path, tmp_path: Path
) -> None:
    file = exported if model.endswith("onnx") else trained / "checkpoints" / model
    picture = sorted((shapes / "val").iterdir())[0]
    assert main(["predict", str(file), str(picture), "--output", str(tmp_path), "--score=0.3"]) == 0
    (record,) = json.loads((tmp_path / "predictions.json").read_text())
    assert list(record) == ["file", "mask", "objects", "classes"]
    assert len(record["objects"]) > 0
    assert {item["name"] for item in record["objects"]} <= set(CLASS_NAMES)
    assert all(item["score"] >= 0.3 for item in record["objects"])
    assert sum(item["share"] for item in record["classes"]) == pytest.approx(1, abs=1e-3)
    assert {item["name"] for item in record["classes"]} <= set(PIXELS)
    mask = read_mask(tmp_path / record["mask"])
    assert mask.shape == np.asarray(Image.open(picture)).shape[:2]
    assert {PIXELS[value] for value in np.unique(mask)} == {item["name"] for item in record["classes"]}
    assert (tmp_path / f"{picture.stem}.jpg").is_file()


def test_two_sets_through_the_commands(shapes: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(Path(CONFIG).read_text())
    common = {"input_size": [144, 192], "batch_size": 4, "num_workers": 0}
    content["data"] = {
        "class_path": "mbdet.data.TwoSetsDataModule",
        "init_args": {
            "detection": {
                "class_path": "mbdet.data.CocoDataModule",
                "init_args": {"root": "elsewhere", "train_split": "train", "val_split": "val", **common},
            },
            "segmentation": {
                "class_path": "mbdet.data.VocSegmentationDataModule",
                "init_args": {"root": str(shapes / "VOC"), "class_names": list(PIXELS), **common},
            },
        },
    }
    config = tmp_path / "two.yaml"
    config.write_text(yaml.safe_dump(content))
    options = [f"--data.detection.root={shapes}", *NETWORK]
    run = tmp_path / "run"
    assert main(["train", str(config), "--run_dir", str(run), "--trainer.max_epochs=1", *options, *TRAINER]) == 0
    assert (run / "predictions.jpg").is_file()
    figures = evaluate(run / "checkpoints" / "last.ckpt", options, tmp_path / "figures.json", str(config))
    assert {"AP", "mIoU"} <= figures.keys()
    assert (figures["images"], figures["images_left_out"]) == (10, 0)


def test_the_network_costs_far_less_than_both_alone(tmp_path: Path) -> None:
    madds = {}
    for name in ("multitask", "ssdlite", "lraspp"):
        output = tmp_path / f"{name}.json"
        assert main(["cost", str(CONFIGS / f"{name}_v2_shapes.yaml"), "--json", str(output)]) == 0
        madds[name] = json.loads(output.read_text())["madds"]
    assert madds["multitask"] < 0.6 * (madds["ssdlite"] + madds["lraspp"])
    assert madds["multitask"] > max(madds["ssdlite"], madds["lraspp"])
