import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from mbdet.cli import main
from mbdet.commands.train import choose_run_dir
from mbdet.data.mask_layouts import VOC_CLASSES
from mbdet.errors import InputError

CONFIGS = Path(__file__).parents[2] / "configs"
SHAPES = str(CONFIGS / "ssdlite_v2_shapes.yaml")


@pytest.fixture
def data_for(
    coco80: Path,
    shapes: Path,
    voc: Callable[[Path, list[str]], Path],
    masks: Path,
    image_folder: Path,
    tmp_path: Path,
) -> Callable[[str, dict[str, Any]], list[str]]:
    """Return a function that gives the overrides with which a data module of a config reads one of the tiny sets."""

    def choose(module: str, options: dict[str, Any]) -> list[str]:
        match module:
            case "ShapesDataModule" | "ShapesSegmentationDataModule" | "ShapesMultiTaskDataModule":
                return [f"--data.root={shapes}", "--data.num_train=8", "--data.num_val=5"]
            case "CocoDataModule" | "CocoSegmentationDataModule":
                return [f"--data.root={coco80}"]
            case "VocDataModule":
                root = voc(tmp_path / "voc", options["class_names"])
                return [f"--data.root={root}", "--data.train_split=train", "--data.val_split=val"]
            case "VocMultiTaskDataModule":
                return [f"--data.root={voc(tmp_path / 'voc', list(VOC_CLASSES[1:]))}"]
            case "VocSegmentationDataModule":
                return [
                    f"--data.root={shapes / 'VOC'}",
                    "--data.train_split=train",
                    "--data.train_masks=SegmentationClass",
                ]
            case "CityscapesDataModule" | "FolderSegmentationDataModule":
                return [f"--data.root={masks}"]
            case _:
                size = "[64,64]"
                sizes = [f"--data.input_size={size}", f"--model.network.input_size={size}"]
                return [f"--data.root={image_folder}", "--model.network.num_classes=3", *sizes]

    return choose


def every_config() -> list[Any]:
    """Return all configs; but for the smallest of each kind of network on each kind of data, they are slow."""
    found, kinds = [], set[tuple[str, str]]()
    contents = {path: yaml.safe_load(path.read_text()) for path in sorted(CONFIGS.glob("*.yaml"))}
    for path, content in sorted(contents.items(), key=lambda item: item[1]["data"]["init_args"].get("input_size", [0])):
        kind = (content["model"]["init_args"]["network"]["class_path"], content["data"]["class_path"])
        found.append(pytest.param(path, id=path.stem, marks=[pytest.mark.slow] if kind in kinds else []))
        kinds.add(kind)
    return found


@pytest.mark.parametrize("config", every_config())
def test_every_config_trains_two_steps(
    config: Path, data_for: Callable[[str, dict[str, Any]], list[str]], tmp_path: Path
) -> None:
    content = yaml.safe_load(config.read_text())
    options = data_for(content["data"]["class_path"].rpartition(".")[2], content["data"]["init_args"])
    if content["model"]["class_path"].endswith("SegmentationTask"):  # which takes images of any size
        options += ["--data.input_size=[97,129]", "--model.network.input_size=[97,129]"]
    options += ["--data.batch_size=2", "--data.num_workers=0"]
    options += ["--trainer.max_steps=2", "--trainer.max_epochs=1", "--trainer.accelerator=cpu"]
    options += ["--trainer.limit_val_batches=1", "--trainer.enable_progress_bar=false"]
    assert main(["train", str(config), "--run_dir", str(tmp_path / "run"), *options]) == 0
    checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 2
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())


def test_every_config_says_what_it_is() -> None:
    for config in CONFIGS.glob("*.yaml"):
        header = config.read_text().split("seed_everything")[0]
        for item in ("Paper:", "Command:", "Cost:", "Result:"):
            assert item in header, f"{config.name}: {item}"
        assert "TODO" not in header


def test_configs_of_published_weights_name_their_classes() -> None:
    """Which predictions need and the weights do not have. ImageNet's are too many for a config."""
    named = []
    for config in CONFIGS.glob("*.yaml"):
        text = config.read_text()
        model = yaml.safe_load(text)["model"]
        if " --weights " in text and not model["class_path"].endswith("ClassificationTask"):
            network = model["init_args"]["network"]["init_args"]
            named.append((config.stem, len(model["init_args"].get("class_names", [])), network["num_classes"]))
    assert len(named) >= 5
    assert all(names == classes for _, names, classes in named), named


def test_a_run_leaves_all_that_it_promises(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    assert {
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "metrics.csv",
        "curves.png",
        "predictions.jpg",
        "config.yaml",
    } <= names
    assert any(name.startswith("tensorboard/events.out") for name in names)
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert all(float(row["train_loss"]) > 0 and float(row["val_loss"]) > 0 and row["AP"] for row in rows)
    assert Image.open(run / "predictions.jpg").width > 1000
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["model"]["init_args"]["network"]["init_args"]["backbone"]["init_args"]["width_mult"] == 0.35


def test_resume_goes_on_in_the_same_folder(
    run: Path, shapes: Path, tiny: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--run_dir", str(run), "--resume", f"--data.root={shapes}", "--trainer.max_epochs=3", *tiny]
    assert main(["train", SHAPES, *options]) == 0
    with (run / "metrics.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1", "2"]
    assert not run.with_name("run-2").exists()
    assert "best checkpoint" in capsys.readouterr().out
    # The config's seed is 0, with which the first epoch began; the third must not repeat its order.
    assert torch.initial_seed() == np.random.SeedSequence([0, 2]).generate_state(1)[0]


def test_a_training_says_where_its_checkpoints_are_even_without_a_picture(
    shapes: Path,
    tiny: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def draw(*_: object) -> None:
        raise InputError("nothing to draw")

    monkeypatch.setattr("mbdet.commands.train.draw_gallery", draw)
    options = [f"--data.root={shapes}", *tiny, "--trainer.max_epochs=1"]
    assert main(["train", SHAPES, "--run_dir", str(tmp_path / "run"), *options]) == 0
    said = capsys.readouterr().out
    assert "checkpoints/best.ckpt" in said
    assert "no picture of predictions" in said
    assert "predictions.jpg" not in said


def test_a_run_folder_that_cannot_be_written(
    shapes: Path, tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["train", SHAPES, "--run_dir", str(tmp_path / "file" / "run"), f"--data.root={shapes}", *tiny]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_the_last_checkpoint_is_the_last_whatever_its_ap(run: Path) -> None:
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert last["epoch"] == int(rows[-1]["epoch"])
    assert best["epoch"] == max(range(len(rows)), key=lambda epoch: float(rows[epoch]["AP"]))


def test_run_folders_are_numbered_and_the_newest_is_resumed(tmp_path: Path) -> None:
    base = tmp_path / "shapes"
    with pytest.raises(InputError, match="no run to resume"):
        choose_run_dir(base, resume=True)
    assert choose_run_dir(base, resume=False) == base
    base.mkdir()
    assert choose_run_dir(base, resume=False) == tmp_path / "shapes-2"
    (tmp_path / "shapes-2" / "checkpoints").mkdir(parents=True)
    with pytest.raises(InputError, match="shapes-2: stopped before its first checkpoint"):
        choose_run_dir(base, resume=True)
    (tmp_path / "shapes-2" / "checkpoints" / "last.ckpt").touch()
    assert choose_run_dir(base, resume=False) == tmp_path / "shapes-3"
    assert choose_run_dir(base, resume=True) == tmp_path / "shapes-2"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model.network.num_classes=7"], "num_classes is 7, but the data has 6 categories (circle, square,"),
        (["--data.input_size=[96,96]"], "data.input_size is (96, 96), but the network was built for (144, 192)"),
        (["--model.network.backbone.width_mlt=1"], "MobileNetV2 has no option 'width_mlt'; did you mean 'width_mult'?"),
        (["--trainer.max_epoks=1"], "max_epoks"),
        (["--data.root=nowhere/else", "--data.num_train=0"], "at least 1 of each"),
        (["--model.postprocess.scores=softmax"], "set postprocess.scores: sigmoid"),
        (["--data.batch_size=1"], "give --data.batch_size 2 or more"),
        (["--trainer.max_epochs=-1"], "give --trainer.max_epochs or max_steps"),
        (["--model.weights=missing.pth"], "missing.pth: no such weight file"),
    ],
)
def test_bad_input_is_one_clear_line(
    options: list[str],
    message: str,
    shapes: Path,
    tiny: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    common = ["--run_dir", str(tmp_path / "run"), f"--data.root={shapes}", *tiny]
    assert main(["train", SHAPES, *common, *options]) == 2
    *_, line = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("mbdet: error: ")
    assert message in line


def test_misspelt_key_in_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(Path(SHAPES).read_text().replace("num_classes", "num_clases"))
    assert main(["train", str(config)]) == 2
    error = capsys.readouterr().err
    assert f"{config}: SSDLite has no option 'num_clases'; did you mean 'num_classes'?" in error


def test_missing_config_and_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "no.yaml"]) == 2
    assert "no.yaml: no such config" in capsys.readouterr().err
    assert main(["tarin"]) == 2
    assert "tarin: no such command; there are train" in capsys.readouterr().err
    assert main([]) == 0
    assert "evaluate" in capsys.readouterr().out


def test_unreadable_image_stops_the_training_with_its_name(
    coco80: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "coco"
    for source in coco80.rglob("*"):
        target = root / source.relative_to(coco80)
        if source.is_dir():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    for split in ("train", "val"):
        for source in (coco80 / f"{split}2017").iterdir():
            (root / f"{split}2017").mkdir(exist_ok=True)
            (root / f"{split}2017" / source.name).write_bytes(source.read_bytes())
    bad = root / "train2017" / "000003.jpg"
    bad.write_bytes(bad.read_bytes()[:2000])
    options = [
        f"--data.root={root}",
        "--data.on_error=raise",
        "--data.num_workers=2",
        "--data.batch_size=4",
        "--trainer.max_epochs=1",
    ]
    options += [
        "--trainer.accelerator=cpu",
        "--trainer.enable_progress_bar=false",
        "--model.network.input_size=[64,64]",
    ]
    options += ["--data.input_size=[64,64]", "--run_dir", str(tmp_path / "run"), "--trainer.precision=32-true"]
    assert main(["train", str(CONFIGS / "ssdlite_v2_coco.yaml"), *options]) == 2
    *_, line = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"mbdet: error: {bad}: ")
    assert "image 3 of" in line
