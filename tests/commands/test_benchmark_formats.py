"""Files of one network side by side, on a tiny set; and the options of export that only some formats take."""

import io
import json
import shutil
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mbdet.cli import main
from mbdet.commands import benchmark_formats
from mbdet.errors import InputError
from mbdet.report.formats import COLOURS, Row

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


@pytest.fixture(scope="module")
def command(weights: str, data: list[str], shapes: Path) -> list[str]:
    """Return the command but for its folder; it compares on pictures on which the random network has no near ties."""
    pictures = ["--calibration", str(shapes / "train"), "--images", str(shapes / "val")]
    return ["benchmark", "formats", CONFIG, "--weights", weights, "--formats", "onnx", "--rounds=2", *pictures, *data]


@pytest.fixture(scope="module")
def finished(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Return the folder of a benchmark of all precisions on one thread and two, and the lines that it printed."""
    folder = tmp_path_factory.mktemp("formats")
    with redirect_stdout(io.StringIO()) as printed:
        assert main([*command, "--output", str(folder), "--keep_float", "backbone"]) == 0
    return folder, printed.getvalue().splitlines()


def table_in(lines: list[str]) -> list[str]:
    """Return the lines of the table, that of the titles first."""
    start = next(number for number, line in enumerate(lines) if line.startswith("format "))
    return lines[start:-1]


def test_one_table_of_all_files(finished: tuple[Path, list[str]]) -> None:
    folder, lines = finished
    content = json.loads((folder / "formats.json").read_text())
    rows = [Row(**row) for row in content["rows"]]
    names = [["PyTorch", "fp32"], ["ONNX", "fp32"], ["ONNX", "fp16"], ["ONNX", "int8"]]
    assert [[row.format, row.precision] for row in rows] == names
    titles, *table = map(str.split, table_in(lines))
    assert " ".join(titles) == "format precision AP drop ms, 1 thread ms, 2 threads MB memory MB parity not delegated"
    assert [words[:2] for words in table] == names
    checkpoint, full, half, small = rows
    assert full.score == pytest.approx(checkpoint.score, abs=1e-3)
    assert full.share == 1
    assert 0.8 < small.share <= 1
    for words, row in zip(table, rows, strict=True):
        assert words[2] == f"{row.score:.4f}"
        assert words[3] == ("-" if row is checkpoint else f"{checkpoint.score - row.score:+.4f}")
        assert words[4:6] == [f"{np.median(seconds) * 1000:.1f}" for seconds in row.seconds.values()]
        assert words[6] == f"{row.bytes / 1e6:.1f}"
        assert words[8] == ("-" if row is checkpoint else f"{row.share:.1%}")
        assert {threads: len(seconds) for threads, seconds in row.seconds.items()} == {"1": 2, "2": 2}
        assert min(min(seconds) for seconds in row.seconds.values()) > 0
    assert full.bytes == (folder / "ssdlite_v2_shapes_fp32.onnx").stat().st_size > 1.4 * half.bytes
    assert full.bytes > 1.1 * small.bytes  # all but the backbone is an eighth of it
    for row in (full, half, small):
        assert row.memory is not None
        assert row.memory > row.bytes
    assert (folder / "formats.txt").read_text().splitlines() == table_in(lines)
    assert max(map(len, lines)) <= 120


def test_the_picture_shows_every_file(finished: tuple[Path, list[str]]) -> None:
    with Image.open(finished[0] / "formats.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape[1] > 500
    for precision in ("fp32", "fp16", "int8"):
        colour = [int(COLOURS[precision][place : place + 2], 16) for place in (1, 3, 5)]
        assert (pixels == colour).all(axis=-1).sum() > 1000  # more than in the legend


def test_what_fails_is_left_out_and_what_is_stale_is_written_anew(
    command: list[str],
    finished: tuple[Path, list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = Path(shutil.copytree(finished[0], tmp_path / "formats"))
    paths = {precision: folder / f"ssdlite_v2_shapes_{precision}.onnx" for precision in ("fp32", "fp16", "int8")}
    before = {precision: path.stat().st_mtime_ns for precision, path in paths.items()}
    paths["fp16"].unlink()

    def crash(model: object) -> None:
        raise RuntimeError("no [such] kernel\nand a long trace")

    def fail(path: Path) -> int:
        raise InputError(f"{path.name}: its memory could not be measured")

    monkeypatch.setattr("mbdet.export.onnx.halve", crash)
    monkeypatch.setattr(benchmark_formats, "memory_of", fail)
    changed = ["--reuse", "--threads", "1", "--keep_float", "backbone", "extras"]
    assert main([*command, "--output", str(folder), *changed]) == 0
    lines = capsys.readouterr().out.splitlines()
    refused = next(number for number, line in enumerate(lines) if line.startswith("onnx fp16: left out: "))
    assert "ONNX's converter refuses the network (no [such] kernel)" in " ".join(lines[refused : refused + 2])
    assert "ssdlite_v2_shapes_fp32.onnx: its memory could not be measured" in lines
    anew = [line for line in lines if "written anew" in line]
    assert anew == [f"{paths['int8'].name}: is written anew, as it was made with other layers left in float"]
    assert paths["fp32"].stat().st_mtime_ns == before["fp32"]
    assert paths["int8"].stat().st_mtime_ns > before["int8"]
    table = [line.split() for line in table_in(lines)[1:]]
    assert [(words[1], words[6]) for words in table] == [("fp32", "-"), ("fp32", "-"), ("int8", "-")]


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
