"""A segmenter from a checkpoint to an ONNX file, to masks and to figures: both must say the same."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import mbdet
from mbdet.cli import main
from mbdet.data.mask_files import read_mask
from mbdet.runtime.maps import class_palette

CAMVID = Path(__file__).parents[2] / "configs" / "lraspp_v3_small_camvid.yaml"
NAMES = ("background", "circle", "square", "triangle", "star", "cross", "ring")


@pytest.fixture(scope="module")
def config(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a config of LR-ASPP on the drawn scenes, with pictures brought to the network input as they are."""
    content = yaml.safe_load(CAMVID.read_text())
    options = content["model"]["init_args"]
    options["network"]["init_args"] |= {"num_classes": 7, "input_size": [96, 128]}
    options["resizing"] = "fit"
    content["data"] = {
        "class_path": "mbdet.data.VocSegmentationDataModule",
        "init_args": {
            "root": str(shapes / "VOC"),
            "input_size": [96, 128],
            "class_names": list(NAMES),
            "resizing": "fit",
            "batch_size": 4,
            "num_workers": 0,
        },
    }
    content["trainer"] = {
        "max_epochs": 2,
        "accelerator": "cpu",
        "enable_progress_bar": False,
        "check_val_every_n_epoch": 2,
    }
    path = tmp_path_factory.mktemp("configs") / "lraspp_shapes.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


@pytest.fixture(scope="module")
def best(config: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "masks"
    assert main(["train", config, "--run_dir", str(folder)]) == 0
    return folder / "checkpoints" / "best.ckpt"


@pytest.fixture(scope="module")
def exported(config: str, best: Path) -> Path:
    path = best.with_name("probabilities.onnx")
    assert main(["export", config, "--weights", str(best), "--output", str(path), "--probabilities"]) == 0
    return path


def test_the_file_scores_like_the_checkpoint(config: str, best: Path, exported: Path) -> None:
    figures = []
    for weights in (best, exported):
        output = best.with_name(f"{weights.name}.json")
        assert main(["evaluate", config, "--weights", str(weights), "--json", str(output)]) == 0
        figures.append(json.loads(output.read_text()))
    assert figures[0]["images"] == 5
    assert figures[0]["mIoU"] > 0
    assert figures[1]["mIoU"] == pytest.approx(figures[0]["mIoU"], abs=1e-5)


def test_predict_writes_the_same_masks_for_both(best: Path, exported: Path, shapes: Path, tmp_path: Path) -> None:
    listed = []
    for model in (best, exported):
        output = tmp_path / model.suffix[1:]
        assert main(["predict", str(model), str(shapes / "val"), "--output", str(output)]) == 0
        listed.append(json.loads((output / "predictions.json").read_text()))
    assert len(listed[0]) == 5
    for expected, actual in zip(*listed, strict=True):
        masks = [read_mask(tmp_path / kind / record["mask"]) for kind, record in (("ckpt", expected), ("onnx", actual))]
        with Image.open(expected["file"]) as picture:
            assert masks[0].shape == (picture.height, picture.width)
        assert expected["mask"] == actual["mask"] == f"masks/{Path(expected['file']).stem}.png"
        assert (masks[0] == masks[1]).mean() > 0.999
        shares = {NAMES[label]: (masks[0] == label).mean() for label in np.unique(masks[0])}
        assert {item["name"]: item["share"] for item in expected["classes"]} == pytest.approx(shares, abs=1e-4)
        drawing = Image.open(tmp_path / "ckpt" / f"{Path(expected['file']).stem}.jpg")
        assert drawing.width == masks[0].shape[1]
    with Image.open(tmp_path / "onnx" / listed[1][0]["mask"]) as mask:
        assert mask.getpalette()[:21] == class_palette(NAMES).ravel().tolist()


def test_a_threshold_leaves_pixels_out_of_both(best: Path, exported: Path, shapes: Path) -> None:
    picture = next((shapes / "val").iterdir())
    expected, actual = mbdet.load(best), mbdet.load(exported)
    threshold = float(np.median(expected(picture).scores))
    kept = [model(picture, threshold).classes for model in (expected, actual)]
    assert 0.3 < (kept[0] == 255).mean() < 0.7
    assert (kept[0] == kept[1]).mean() > 0.99


def test_other_resizing_than_the_file_s(config: str, exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--data.resizing=pad", "--model.resizing=pad"]
    assert main(["evaluate", config, "--weights", str(exported), *options]) == 2
    error = capsys.readouterr().err
    assert f"{exported}: takes images with resizing fit, but data.resizing is pad; give both the same" in error


def test_the_masks_do_not_replace_the_pictures(
    exported: Path, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "masks" / "a.png"
    picture.parent.mkdir()
    Image.open(next((shapes / "val").iterdir())).save(picture)
    before = picture.read_bytes()
    assert main(["predict", str(exported), str(picture), "--output", str(tmp_path)]) == 2
    assert "holds the pictures themselves; give another folder with --output" in capsys.readouterr().err
    assert picture.read_bytes() == before
