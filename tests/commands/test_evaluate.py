import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mbdet.cli import main

CONFIG = str(Path(__file__).parents[2] / "configs" / "ssdlite_v2_shapes.yaml")
FIGURES = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl", "per_class"]


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
    assert list(content) == FIGURES
    assert list(content["per_class"]) == ["circle", "square", "triangle", "star", "cross", "ring"]


def test_the_detections_beside_give_the_same_figures(figures: Path, shapes: Path, tmp_path: Path) -> None:
    detections = figures.with_name("figures_detections.json")
    assert len(json.loads(detections.read_text())) > 100
    annotations = shapes / "annotations" / "instances_val.json"
    again = tmp_path / "again.json"
    assert (
        main(["evaluate", "--annotations", str(annotations), "--results", str(detections), "--json", str(again)]) == 0
    )
    assert json.loads(again.read_text()) == json.loads(figures.read_text())


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
        ([], "evaluate needs CONFIG --weights FILE, or --annotations FILE --results FILE"),
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
