"""The commands on data in VOC's layout."""

import csv
import json
from pathlib import Path

import pytest
import yaml

from mbdet.cli import main

SHAPES = Path(__file__).parents[2] / "configs" / "ssdlite_v2_shapes.yaml"


@pytest.fixture
def config(shapes: Path, tmp_path: Path) -> Path:
    """Write the quick start's config for the same scenes in VOC's layout."""
    content = yaml.safe_load(SHAPES.read_text())
    content["data"] = {
        "class_path": "mbdet.data.VocDataModule",
        "init_args": {
            "root": str(shapes / "VOC"),
            "input_size": content["data"]["init_args"]["input_size"],
            "train_split": "train",
            "val_split": "val",
            "class_names": ["circle", "square", "triangle", "star", "cross", "ring"],
        },
    }
    file = tmp_path / "voc.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


@pytest.fixture
def options(tiny: list[str]) -> list[str]:
    return [option for option in tiny if not option.startswith(("--data.num_train", "--data.num_val"))]


def test_evaluation_gives_the_figures_of_the_same_scenes_in_coco_layout(
    config: Path, run: Path, shapes: Path, tiny: list[str], options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--weights", str(run / "checkpoints/best.ckpt"), "--json"]
    reports = []
    for file, given in ((SHAPES, [f"--data.root={shapes}", *tiny]), (config, options)):
        output = config.with_name(f"{file.stem}.json")
        given = [option for option in given if not option.startswith("--trainer")]
        assert main(["evaluate", str(file), *common, str(output), *given]) == 0
        reports.append(json.loads(output.read_text()))
    coco, voc = reports
    # Without sizes: only the COCO file knows the area of the shape itself. Crowds there are difficult objects here.
    for name in ("AP", "AP50", "AP75", "AR1", "AR10", "AR100"):
        assert voc[name] == pytest.approx(coco[name], abs=1e-6)
    # The area below the precision is what COCO sums at 101 recalls, here over crowds and limits that hardly matter.
    assert voc["AP50_voc"] == pytest.approx(area_from(config.with_name("voc_detections.json"), shapes), abs=1e-6)
    assert voc["per_class"]["ring"]["AP50"] == pytest.approx(coco["per_class"]["ring"]["AP50"], abs=1e-6)
    assert voc["per_class"]["ring"]["objects"] == coco["per_class"]["ring"]["objects"]
    assert "AP50_voc07" in capsys.readouterr().out
    assert (config.with_name("voc_detections.json")).is_file()


def test_training_records_both_kinds_of_figures(config: Path, options: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert main(["train", str(config), "--run_dir", str(folder), "--trainer.max_epochs=1", *options]) == 0
    with (folder / "metrics.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert all(0 <= float(row[name]) <= 1 for name in ("AP", "AP50", "AP50_voc07", "AP50_voc"))
    assert (folder / "predictions.jpg").is_file()
