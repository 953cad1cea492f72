"""Every command with a classifier."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import mobilenet_v2

import mbdet
from mbdet.cli import main
from mbdet.errors import InputError

CONFIGS = Path(__file__).parents[2] / "configs"
CONFIG = str(CONFIGS / "classify_v2.yaml")
NAMES = ("circle", "square", "triangle")


@pytest.fixture(scope="module")
def best(classifier_run: Path) -> str:
    return str(classifier_run / "checkpoints" / "best.ckpt")


@pytest.fixture(scope="module")
def figures(classifier_run: Path, best: str, tiny_classes: list[str]) -> Path:
    output = classifier_run / "figures.json"
    assert main(["evaluate", CONFIG, "--weights", best, "--json", str(output), *tiny_classes]) == 0
    return output


def test_a_run_leaves_all_that_it_promises(classifier_run: Path) -> None:
    with (classifier_run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert all(float(row["train_loss"]) > 0 and float(row["val_loss"]) > 0 for row in rows)
    assert all(0 <= float(row["top1"]) <= float(row["top5"]) == 1 for row in rows)
    assert float(rows[1]["lr"]) == pytest.approx(0.045 * 0.98**2)
    assert Image.open(classifier_run / "predictions.jpg").width > 1000
    assert (classifier_run / "curves.png").exists()
    best = torch.load(classifier_run / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["epoch"] == max(range(2), key=lambda epoch: float(rows[epoch]["top1"]))
    assert best["class_names"] == list(NAMES)


def test_figures(figures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads(figures.read_text())
    assert list(content) == ["top1", "top5", "per_class", "images", "images_left_out"]
    assert (content["images"], content["images_left_out"]) == (6, 0)
    assert tuple(content["per_class"]) == NAMES
    assert all(values["images"] == 2 for values in content["per_class"].values())
    records = json.loads(figures.with_name("figures_predictions.json").read_text())
    assert len(records) == 6
    right = [record["found"][0]["name"] == record["name"] for record in records]
    assert content["top1"] == pytest.approx(np.mean(right))
    assert {Path(record["file"]).parent.name for record in records} == set(NAMES)


def test_figures_are_those_of_the_training(figures: Path, classifier_run: Path) -> None:
    with (classifier_run / "metrics.csv").open() as file:
        best = max(float(row["top1"]) for row in csv.DictReader(file))
    assert json.loads(figures.read_text())["top1"] == pytest.approx(best, rel=1e-5)


def test_safetensors_give_the_same_figures(figures: Path, best: str, tiny_classes: list[str], tmp_path: Path) -> None:
    state = torch.load(best, weights_only=True)["state_dict"]
    path = tmp_path / "w.safetensors"
    save_file({name.removeprefix("network."): value.contiguous() for name, value in state.items()}, path)
    output = tmp_path / "figures.json"
    assert main(["evaluate", CONFIG, "--weights", str(path), "--json", str(output), *tiny_classes]) == 0
    assert json.loads(output.read_text()) == json.loads(figures.read_text())


def test_predict_names_and_lists(best: str, figures: Path, image_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "predictions"
    assert main(["predict", best, str(image_folder / "val" / "circle"), "--output", str(output)]) == 0
    records = json.loads((output / "predictions.json").read_text())
    evaluated = json.loads(figures.with_name("figures_predictions.json").read_text())[:2]
    for record, expected in zip(records, evaluated, strict=True):
        assert record["file"] == expected["file"]
        assert [item["name"] for item in record["classes"]] == [item["name"] for item in expected["found"]]
        scores = [item["score"] for item in record["classes"]]
        assert scores == pytest.approx([item["score"] for item in expected["found"]], abs=1e-4)
        assert sum(scores) == pytest.approx(1, abs=1e-3)
        drawn = np.asarray(Image.open(output / f"{Path(record['file']).stem}.jpg")).astype(int)
        original = np.asarray(Image.open(record["file"])).astype(int)
        assert drawn.shape == original.shape
        assert np.abs(drawn - original)[:8].mean() > 2 * np.abs(drawn - original)[24:].mean()  # the text is at the top


def test_python_api(best: str, image_folder: Path, tiny_classes: list[str]) -> None:
    classifier = mbdet.load(best)
    assert classifier.class_names == NAMES
    path = image_folder / "val" / "square" / "0.png"
    found = classifier(path)
    assert len(found.labels) == len(found.scores) == 3
    assert (np.diff(found.scores) <= 0).all()
    assert len(classifier(path, score_threshold=float(found.scores[0])).labels) == 1
    again = mbdet.load(CONFIG, best, tiny_classes)(path)
    np.testing.assert_allclose(again.scores, found.scores, atol=1e-6)


def test_the_crop_travels_with_the_checkpoint(tiny_classes: list[str], tmp_path: Path) -> None:
    crops = ["--data.eval_crop=0.5", "--model.eval_crop=0.5", "--trainer.max_steps=1", "--trainer.max_epochs=1"]
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
    assert main(["train", CONFIG, "--run_dir", str(tmp_path / "run"), *tiny_classes, *crops, *quiet]) == 0
    classifier = mbdet.load(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert classifier.eval_crop == 0.5  # type: ignore[attr-defined]  # a classifier's


def test_a_backbone_goes_from_the_classifier_to_a_detector(
    best: str, shapes: Path, tiny: list[str], tmp_path: Path
) -> None:
    options = [*tiny, f"--data.root={shapes}", "--trainer.max_steps=1", "--trainer.max_epochs=1"]
    options += [f"--model.backbone_weights={best}", "--model.optimizer.lr=0"]
    options += ["--model.network.backbone.scale_last=false", "--trainer.callbacks=null"]
    config = str(CONFIGS / "ssdlite_v2_shapes.yaml")
    assert main(["train", config, "--run_dir", str(tmp_path / "run"), *options]) == 0
    state = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    name = "network.backbone.stem.conv.weight"
    torch.testing.assert_close(state[name], torch.load(best, weights_only=True)["state_dict"][name])


def test_torchvision_s_classifier_whole(image_folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = mobilenet_v2(num_classes=3).eval()
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    options = ["--model.network.num_classes=3", "--model.network.input_size=[64,64]"]
    classifier = mbdet.load(CONFIG, tmp_path / "theirs.pth", options)
    image = np.array(Image.open(image_folder / "val" / "circle" / "0.png").resize((64, 64)))
    with torch.no_grad():
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        pixels = torch.from_numpy((image / 255).astype(np.float32))
        expected = theirs(((pixels - mean) / std).permute(2, 0, 1)[None]).softmax(1)[0]
    (found,) = classifier.predict(image.transpose(2, 0, 1)[None], np.array([[64, 64]]))
    order = np.argsort(found.labels)
    np.testing.assert_allclose(found.scores[order], expected.numpy(), rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--model.network.num_classes=5"],
            "num_classes is 5, but the data has 3 categories (circle, square, triangle): ",
        ),
        (["--data.input_size=[64,64]"], "data.input_size is (64, 64), but the network was built for (48, 64)"),
        (["--data.eval_crop=1.0"], "data.eval_crop is 1.0, but model.eval_crop is 0.875; give both the same"),
        (["--data.root=nowhere"], "nowhere: there is no such data set folder"),
        (["--data.augmentation.min_area=0"], "augmentation.min_area is 0"),
        (["--model.schedule.rate=2"], "ExponentialDecay: rate is 2"),
        (["--model.network.tap=c6"], "tap 'c6' is not a map of the backbone"),
        (["--model.class_names=[circle,ring,triangle]"], "class 1 is 'ring' in the config, but 'square' in the data"),
    ],
)
def test_bad_input_is_one_clear_line(
    options: list[str], message: str, tiny_classes: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", CONFIG, "--run_dir", str(tmp_path / "run"), *tiny_classes, *options]) == 2
    *_, line = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("mbdet: error: ")
    assert message in line


def test_the_exported_file_names_the_same(
    best: str, figures: Path, image_folder: Path, tiny_classes: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "classes.onnx"
    assert main(["export", CONFIG, "--weights", best, "--output", str(path), *tiny_classes]) == 0
    output = tmp_path / "figures.json"
    assert main(["evaluate", CONFIG, "--weights", str(path), "--json", str(output), *tiny_classes]) == 0
    assert json.loads(output.read_text()) == json.loads(figures.read_text())
    picture = image_folder / "val" / "square" / "0.png"
    expected, actual = mbdet.load(best)(picture), mbdet.load(path)(picture)
    np.testing.assert_array_equal(actual.labels, expected.labels)
    np.testing.assert_allclose(actual.scores, expected.scores, atol=1e-4)


def test_another_crop_than_the_file_s(
    best: str, tiny_classes: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "classes.onnx"
    assert (
        main(["export", CONFIG, "--weights", best, "--output", str(path), *tiny_classes, "--model.eval_crop=0.5"]) == 0
    )
    assert main(["evaluate", CONFIG, "--weights", str(path), *tiny_classes]) == 2
    error = capsys.readouterr().err
    assert f"{path}: takes images with eval_crop 0.5, but data.eval_crop is 0.875; give both the same" in error


def test_weights_of_another_kind(
    best: str, run: Path, shapes: Path, tiny: list[str], capsys: pytest.CaptureFixture[str], tiny_classes: list[str]
) -> None:
    detector = str(run / "checkpoints" / "best.ckpt")
    state = torch.load(detector, weights_only=True)["state_dict"]
    path = run / "state.pth"
    torch.save({name.removeprefix("network."): value for name, value in state.items()}, path)
    assert main(["evaluate", CONFIG, "--weights", str(path), *tiny_classes]) == 2
    assert "are not those of a whole classifier" in capsys.readouterr().err
    onnx = run / "kind.onnx"
    config = str(CONFIGS / "ssdlite_v2_shapes.yaml")
    options = ["--output", str(onnx), "--model.network.backbone.width_mult=0.35"]
    assert main(["export", config, "--weights", detector, *options]) == 0
    capsys.readouterr()
    assert main(["evaluate", CONFIG, "--weights", str(onnx), *tiny_classes]) == 2
    assert f"{onnx}: is a detector, but {CONFIG} describes a classifier" in capsys.readouterr().err


def test_a_missing_checkpoint() -> None:
    with pytest.raises(InputError, match="no such checkpoint"):
        mbdet.load("missing.ckpt")
