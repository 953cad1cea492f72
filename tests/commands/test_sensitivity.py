import json
from pathlib import Path

import pytest

from mbdet.cli import main
from mbdet.config import ConfigCLI

CONFIG = str(Path(__file__).parents[2] / "configs" / "ssdlite_v2_shapes.yaml")
WIDTH = "--model.network.backbone.width_mult=0.35"


def test_table_and_figures(run: Path, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, figures = str(run / "checkpoints/best.ckpt"), tmp_path / "new" / "figures.json"
    options = ["--calibration", str(shapes / "val"), "--images", "2", "--json", str(figures), WIDTH]
    assert main(["sensitivity", CONFIG, "--weights", weights, *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    content = json.loads(figures.read_text())
    layers = content["layers"]
    worst = [min(value for value in layer["decibels"].values() if value is not None) for layer in layers]
    assert worst == sorted(worst)
    assert sum(layer["share"] for layer in layers) == pytest.approx(1)
    assert set(layers[0]["decibels"]) == {"box_deltas", "class_logits"}
    heads = {layer["name"]: layer["decibels"] for layer in layers if layer["name"].startswith("box_heads")}
    assert all(head["class_logits"] is None and head["box_deltas"] is not None for head in heads.values())
    assert content["images"] == 2
    assert content["together"]["all layers"]["box_deltas"] < min(
        layer["decibels"]["box_deltas"] or 99 for layer in layers
    )
    start = next(index for index, line in enumerate(lines) if line.startswith("layer "))
    assert [line.split()[0] for line in lines[start + 1 : start + 16]] == [layer["name"] for layer in layers[:15]]
    assert lines[start + 16].startswith("all layers ")
    suggestion = [line for line in lines if line.startswith("--keep_float ")]
    assert suggestion == ([f"--keep_float {' '.join(content['keep_float'])}"] if content["keep_float"] else [])

    modules = dict(ConfigCLI(Path(CONFIG), [WIDTH]).task.network.named_modules())
    assert all(layer["name"] in modules for layer in layers)  # as --keep_float wants them


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--images", "0"], "--images is a number from 1 up"),
        (["--json", "."], ".: is a folder"),
        (["--calibration", "nowhere"], "nowhere"),
    ],
)
def test_bad_input(
    run: Path, shapes: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--weights", str(run / "checkpoints/best.ckpt"), "--calibration", str(shapes / "val"), WIDTH, *options]
    assert main(["sensitivity", CONFIG, *given]) == 2
    assert message in capsys.readouterr().err
