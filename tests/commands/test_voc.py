"""The commands on data in VOC's layout."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from mbdet.cli import main
from mbdet.metrics.voc import VocEvaluator
from mbdet.runtime.types import Detections

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


def area_from_file(results: Path, annotations: Path) -> float:
    """Score written detections of VOC's layout against the COCO file of the same scenes, image by image."""
    evaluator = VocEvaluator(annotations)
    images = [image["id"] for image in json.loads(annotations.read_text())["images"]]
    records = json.loads(results.read_text())
    for index, image_id in enumerate(images):  # VOC's ids are places in the split, its categories are labels
        found = [record for record in records if record["image_id"] == index]
        boxes = np.array([record["bbox"] for record in found], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        scores = np.array([record["score"] for record in found], np.float32)
        evaluator.update(image_id, Detections(boxes, scores, np.array([record["category_id"] for record in found])))
    return evaluator.compute().AP50_voc


class Oracle:
    """Finds most of the objects of the split's images, in their order, more or less where they are.

    Args:
        annotations: COCO's file of the split.
    """

    def __init__(self, annotations: Path) -> None:
        document = json.loads(annotations.read_text())
        self.labels = {number: label for label, number in enumerate(sorted(c["id"] for c in document["categories"]))}
        self.objects = [
            [record for record in document["annotations"] if record["image_id"] == image["id"]]
            for image in document["images"]
        ]
        self.seen = 0

    def predict(self, images: np.ndarray, sizes: np.ndarray) -> list[Detections]:
        """See `Predictor.predict`."""
        numbers = range(self.seen, self.seen + len(images))
        self.seen += len(images)
        return [self.find(number) for number in numbers]

    def find(self, number: int) -> Detections:
        """Move the boxes of one image, leave some out, and name some wrongly."""
        rng = np.random.default_rng(number)
        found = [record for record in self.objects[number] if rng.random() < 0.8]
        boxes = np.array([record["bbox"] for record in found], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = np.array([self.labels[record["category_id"]] for record in found], np.int64)
        labels = np.where(rng.random(len(found)) < 0.2, (labels + 1) % len(self.labels), labels)
        scores = np.sort(rng.random(len(found)).astype(np.float32))[::-1]
        return Detections(boxes + rng.normal(0, 2, boxes.shape).astype(np.float32), scores, labels)


def test_evaluation_gives_the_figures_of_the_same_scenes_in_coco_layout(
    config: Path,
    run: Path,
    shapes: Path,
    tiny: list[str],
    options: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of an oracle, because a network after two steps would have nothing but zeros to compare."""
    common = ["--weights", str(run / "checkpoints/best.ckpt"), "--json"]
    reports = []
    for file, given in ((SHAPES, [f"--data.root={shapes}", *tiny]), (config, options)):
        output = config.with_name(f"{file.stem}.json")
        given = [option for option in given if not option.startswith("--trainer")]
        oracle = Oracle(shapes / "annotations" / "instances_val.json")
        monkeypatch.setattr("mbdet.predictor.TorchPredictor.predict", oracle.predict)
        assert main(["evaluate", str(file), *common, str(output), *given]) == 0
        reports.append(json.loads(output.read_text()))
    coco, voc = reports
    assert 0.1 < coco["AP"] < 0.9
    # Without sizes: only the COCO file knows the area of the shape itself. Crowds there are difficult objects here.
    for name in ("AP", "AP50", "AP75", "AR1", "AR10", "AR100"):
        assert voc[name] == pytest.approx(coco[name], abs=1e-6)
    expected = area_from_file(config.with_name("voc_detections.json"), shapes / "annotations" / "instances_val.json")
    assert expected > 0
    assert voc["AP50_voc"] == pytest.approx(expected, abs=1e-6)
    assert voc["per_class"]["ring"]["AP50"] == pytest.approx(coco["per_class"]["ring"]["AP50"], abs=1e-6)
    assert voc["per_class"]["ring"]["objects"] == coco["per_class"]["ring"]["objects"]
    assert "AP50_voc07" in capsys.readouterr().out


def test_training_records_both_kinds_of_figures(config: Path, options: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert main(["train", str(config), "--run_dir", str(folder), "--trainer.max_epochs=1", *options]) == 0
    with (folder / "metrics.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert all(0 <= float(row[name]) <= 1 for name in ("AP", "AP50", "AP50_voc07", "AP50_voc"))
    assert (folder / "predictions.jpg").is_file()
