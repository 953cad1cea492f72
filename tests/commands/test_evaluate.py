import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from mbdet.cli import main

CONFIG = str(Path(__file__).parents[2] / "configs" / "ssdlite_v2_shapes.yaml")
FIGURES = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl", "per_class"]
COUNTS = ["images", "images_left_out"]


@pytest.fixture(scope="module")
def data(shapes: Path, tiny: list[str]) -> list[str]:
    return [f"--data.root={shapes}", *(option for option in tiny if not option.startswith("--trainer"))]


@pytest.fixture(scope="module")
def figures(run: Path, data: list[str]) -> Path:
    output = run / "figures.json"
    assert (
        main(["evaluate", CONFIG, "--weights", str(run / "checkpoints/best.ckpt"), "--json", str(output), *data]) == 0
    )
    return output


def test_figures_have_the_twelve_keys_and_the_classes(figures: Path) -> None:
    content = json.loads(figures.read_text())
    assert list(content) == FIGURES + COUNTS
    assert [content[name] for name in COUNTS] == [5, 0]
    assert list(content["per_class"]) == ["circle", "square", "triangle", "star", "cross", "ring"]


def test_the_detections_beside_give_the_same_figures(figures: Path, shapes: Path, tmp_path: Path) -> None:
    detections = figures.with_name("figures_detections.json")
    assert len(json.loads(detections.read_text())) > 100
    annotations = shapes / "annotations" / "instances_val.json"
    again = tmp_path / "again.json"
    assert (
        main(["evaluate", "--annotations", str(annotations), "--results", str(detections), "--json", str(again)]) == 0
    )
    expected = json.loads(figures.read_text())
    assert json.loads(again.read_text()) == {name: expected[name] for name in FIGURES}


def test_images_that_are_left_out_are_counted(
    run: Path, shapes: Path, data: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(shutil.copytree(shapes, tmp_path / "shapes"))
    missing, damaged, *_ = sorted((root / "val").iterdir())
    missing.unlink()
    damaged.write_bytes(damaged.read_bytes()[:500])
    config = yaml.safe_load(Path(CONFIG).read_text())
    config["data"] = {
        "class_path": "mbdet.data.CocoDataModule",
        "init_args": {"root": str(root), "input_size": [144, 192], "train_split": "train", "val_split": "val"},
    }
    (tmp_path / "coco.yaml").write_text(yaml.safe_dump(config))
    options = [option for option in data if not option.startswith(("--data.num_", "--data.root"))]
    options += ["--data.num_workers=0", "--data.on_error=skip", "--json", str(tmp_path / "a.json")]
    weights = str(run / "checkpoints/best.ckpt")
    assert main(["evaluate", str(tmp_path / "coco.yaml"), "--weights", weights, *options]) == 0
    content = json.loads((tmp_path / "a.json").read_text())
    assert [content[name] for name in COUNTS] == [3, 2]
    assert "images: 3, images_left_out: 2" in capsys.readouterr().out


def test_an_unwritable_place_is_said_before_the_work(
    run: Path, data: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("mbdet.predictor.TorchPredictor.predict", None)  # would be a traceback
    options = ["--weights", str(run / "checkpoints/best.ckpt"), "--json", str(tmp_path / "file" / "a.json")]
    assert main(["evaluate", CONFIG, *options, *data]) == 2
    assert "a.json: cannot be written" in capsys.readouterr().err


def test_an_unknown_device(run: Path, data: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    weights = str(run / "checkpoints/best.ckpt")
    assert main(["evaluate", CONFIG, "--weights", weights, "--device", "gpu", *data]) == 2
    assert "device 'gpu' cannot be used" in capsys.readouterr().err


def test_safetensors_and_state_dict_give_the_same_figures(
    run: Path, figures: Path, data: list[str], tmp_path: Path
) -> None:
    state = torch.load(run / "checkpoints/best.ckpt", weights_only=True)["state_dict"]
    state = {name.removeprefix("network."): value.contiguous() for name, value in state.items()}
    save_file(state, tmp_path / "w.safetensors")
    torch.save(state, tmp_path / "w.pth")
    for name in ("w.safetensors", "w.pth"):
        output = tmp_path / f"{name}.json"
        assert main(["evaluate", CONFIG, "--weights", str(tmp_path / name), "--json", str(output), *data]) == 0
        assert json.loads(output.read_text()) == json.loads(figures.read_text())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "evaluate needs CONFIG --weights FILE, or --weights FILE --annotations FILE --images FOLDER, or"),
        ([CONFIG], "evaluate needs CONFIG --weights FILE"),
        ([CONFIG, "--weights", "no.ckpt"], "no.ckpt: no such checkpoint"),
        (["--annotations", "no.json", "--results", "no.json"], "no.json: cannot be read"),
        (["--annotations", "no.json", "--results", "no.json", "--data.root=x"], "takes no --data.root=x"),
    ],
)
def test_bad_input(options: list[str], message: str, data: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", *options, *(data if CONFIG in options else [])]) == 2
    assert message in capsys.readouterr().err


def test_weights_of_another_model(run: Path, data: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    weights = str(run / "checkpoints/best.ckpt")
    wider = "--model.network.backbone.width_mult=0.5"
    assert main(["evaluate", CONFIG, "--weights", weights, *data, wider]) == 2
    error = capsys.readouterr().err
    assert "was made with network.backbone.width_mult 0.35, the config says 0.5" in error
