"""Files of one network side by side, on a tiny set; and the options of export that only some formats take."""

import json
from pathlib import Path

import pytest
from PIL import Image

from mbdet.cli import main
from mbdet.report.formats import Row

CONFIG = str(Path(__file__).parents[2] / "configs" / "ssdlite_v2_shapes.yaml")
# Scores around a half are worth comparing in half precision.
NETWORK = ["--model.network.backbone.width_mult=0.35", "--model.network.class_bias_init=0"]


@pytest.fixture(scope="module")
def data(shapes: Path, tiny: list[str]) -> list[str]:
    return [f"--data.root={shapes}", *(option for option in tiny if not option.startswith("--trainer")), *NETWORK]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return weights of a network that was never trained, but for its batch norms."""
    from safetensors.torch import save_file

    from mbdet.config import ConfigCLI
    from mbdet.testing import settle

    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_file(settle(ConfigCLI(Path(CONFIG), NETWORK).task.network).state_dict(), path)
    return str(path)


def test_one_table_of_all_files(
    weights: str, data: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["benchmark", "formats", CONFIG, "--weights", weights, "--output", str(tmp_path), "--formats", "onnx"]
    quick = ["--precisions", "fp32", "fp16", "--rounds=2", "--threads", "1"]
    assert main([*command, *quick, *data]) == 0
    lines = capsys.readouterr().out.splitlines()
    (start,) = (number for number, line in enumerate(lines) if line.startswith("format"))
    assert [line.split()[:2] for line in lines[start + 1 : start + 4]] == [
        ["PyTorch", "fp32"],
        ["ONNX", "fp32"],
        ["ONNX", "fp16"],
    ]
    content = json.loads((tmp_path / "formats.json").read_text())
    checkpoint, full, half = (Row(**row) for row in content["rows"])
    assert full.score == pytest.approx(checkpoint.score, abs=1e-3)
    assert [len(row.seconds["1"]) for row in (checkpoint, full, half)] == [2, 2, 2]  # type: ignore[index]  # text in JSON
    assert full.bytes == (tmp_path / "ssdlite_v2_shapes_fp32.onnx").stat().st_size > 1.4 * half.bytes
    assert full.memory is not None
    assert full.memory > full.bytes
    with Image.open(tmp_path / "formats.png") as picture:
        assert picture.width > 500
    assert (tmp_path / "formats.txt").read_text().splitlines() == lines[start : start + 4]
    before = (tmp_path / "ssdlite_v2_shapes_fp32.onnx").stat().st_mtime_ns
    assert main([*command, *quick, "--reuse", *data]) == 0
    assert (tmp_path / "ssdlite_v2_shapes_fp32.onnx").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--precision=int8"], "give --calibration FOLDER"),
        (["--precision=int8", "--calibration={empty}"], "no picture in this folder"),
        (["--calibration={empty}"], "fp32 files have nothing to learn"),
        (["--precision=int8", "--calibration={empty}", "--calibration_images=0"], "a number from 1 up"),
        (["--images={empty}"], "no picture in this folder"),
        (["--output=m.tflite"], "an ONNX file is called something.onnx"),
    ],
)
def test_options_that_make_no_sense(
    options: list[str], message: str, weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [option.format(empty=tmp_path) for option in options]
    assert main(["export", CONFIG, "--weights", weights, *given, *NETWORK]) == 2
    assert message in capsys.readouterr().err
    assert not list(Path(weights).parent.glob("*.onnx"))


def test_int8_is_not_benchmarked_without_pictures(
    weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["benchmark", "formats", CONFIG, "--weights", weights, "--output", str(tmp_path), *NETWORK]) == 2
    assert "give --calibration FOLDER, or --precisions fp32 fp16" in capsys.readouterr().err
