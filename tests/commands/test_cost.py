import json
import re
from pathlib import Path

import pytest

from mbdet.cli import main

CONFIGS = Path(__file__).parents[2] / "configs"
CONFIG = str(CONFIGS / "ssdlite_v2_coco.yaml")
KEYS = [
    "config",
    *("input_size", "parameters", "parameters_without_bn", "madds", "weights", "activations", "peak", "file_bytes"),
    *("operators", "separable", "layers"),
]


def test_one_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures, picture = tmp_path / "new" / "cost.json", tmp_path / "cost.svg"
    assert main(["cost", CONFIG, "--layers", "--json", str(figures), "--plot", str(picture)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    printed = "\n".join(lines)
    assert lines[0] == "ssdlite_v2_coco: SSDLite"
    assert "4,286,261 without batch norms" in printed
    assert re.search(r"multiply-adds +788\.83 M", printed)
    assert re.search(r"1x1 +54 +717\.62 +90\.97 % +4,159,040 +97\.10 %", printed)
    assert re.search(r"class_heads\.1\.pointwise +1x1 +1x1 +486x10x10 +622,566 +62\.21 +7\.89 %", printed)
    assert re.search(r"backbone\.blocks\.0\.depthwise\.conv +20\.48 +117\.96 +800 +4,608 +0\.1736", printed)

    content = json.loads(figures.read_text())
    assert list(content) == KEYS
    assert content["input_size"] == [320, 320]
    assert content["parameters_without_bn"] == 4_286_261
    assert content["madds"] == sum(layer["madds"] for layer in content["layers"]) == 788_830_144
    assert sum(row["madds_share"] for row in content["operators"]) == pytest.approx(1)
    assert content["peak"]["fp32_bytes"] == 4 * content["peak"]["elements"]
    assert set(content["file_bytes"]) == {"fp32", "fp16", "int8"}
    assert len(content["separable"]["pairs"]) == 33
    assert "<!-- ssdlite_v2_coco: 0.79 B -->" in picture.read_text()


def test_overrides_change_the_network(tmp_path: Path) -> None:
    figures = tmp_path / "cost.json"
    options = ["--model.network.input_size", "[1024, 2048]", "--model.network.backbone.width_mult=0.5"]
    assert main(["cost", CONFIG, "--json", str(figures), *options]) == 0
    content = json.loads(figures.read_text())
    assert content["input_size"] == [1024, 2048]
    assert content["layers"][0]["out_shape"] == [16, 512, 1024]


def test_all_shipped_configs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(CONFIGS.parent)
    figures = tmp_path / "all.json"
    assert main(["cost", "--all", "--json", str(figures)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    stems = [path.stem for path in sorted(CONFIGS.glob("*.yaml"))]
    assert [line[0] for line in lines[: len(stems) + 1]] == ["config", *stems]
    row = next(line for line in lines if line[0] == "ssdlite_v2_coco")
    assert row[1:] == ["320x320", "4.34", "0.789", "90.97", "%", "12.29", "17.25", "4.51"]
    content = json.loads(figures.read_text())
    assert [Path(entry["config"]).stem for entry in content] == stems
    assert all(list(entry) == KEYS for entry in content)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "cost needs CONFIG [--layers] [--plot FILE], or --all [DIR]"),
        (["--all", "--layers"], "cost needs CONFIG"),
        (["--all", CONFIG], "cost needs CONFIG"),
        (["--all", "nowhere"], "nowhere: no configs here"),
        (["no.yaml"], "no.yaml: no such config"),
        ([CONFIG, "--plot", "cost.doc"], "cost.doc: not a name for a picture"),
        ([CONFIG, "--model.network.width", "1"], "has no option"),
    ],
)
def test_bad_input(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["cost", *options]) == 2
    assert message in capsys.readouterr().err
