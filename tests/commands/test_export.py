"""Where files go, and what `--format all` makes of formats that cannot do what is asked for."""

from pathlib import Path

import numpy as np
import pytest

from mbdet.cli import main
from mbdet.commands import export
from mbdet.commands.export import comparison_images, output_path
from mbdet.data import CocoDataModule
from mbdet.errors import InputError
from mbdet.export.format import Format
from mbdet.export.formats import find_format
from mbdet.runtime.image import resize

CONFIG = str(Path(__file__).parents[2] / "configs" / "ssdlite_v2_shapes.yaml")
WIDTH = "--model.network.backbone.width_mult=0.35"


@pytest.mark.parametrize(
    ("name", "weights", "output"),
    [
        ("litert", "m.tflite", None),
        ("litert", "m.tflite", "m.tflite"),
        ("openvino", "m.bin", None),  # where it would put its own weights
        ("ncnn", "m.ncnn.bin", "m.ncnn.param"),
        ("onnx", "m.onnx.json", "m.onnx"),
    ],
)
def test_weights_are_not_overwritten(name: str, weights: str, output: str | None, tmp_path: Path) -> None:
    try:
        target = find_format(name)
    except InputError as error:
        pytest.skip(str(error))
    (tmp_path / weights).touch()
    given = None if output is None else tmp_path / output
    with pytest.raises(InputError, match=r"m\..* would overwrite the weights .*; give another name with --output"):
        output_path(given, str(tmp_path / weights), target, "fp32", of_all=False)
    with pytest.raises(InputError, match="would overwrite"):  # before the weights are read
        main_or_raise(name, tmp_path / weights, given)
    assert output_path(tmp_path / "other", str(tmp_path / weights), target, "fp32", of_all=True).name == (
        f"other{target.suffix}"
    )


def main_or_raise(name: str, weights: Path, output: Path | None) -> None:
    extra = [] if output is None else ["--output", str(output)]
    export.main([CONFIG, "--weights", str(weights), "--format", name, *extra])


def test_weights_of_another_suffix_may_share_the_name(tmp_path: Path) -> None:
    (tmp_path / "m.ckpt").touch()
    path = output_path(None, str(tmp_path / "m.ckpt"), find_format("onnx"), "int8", of_all=False)
    assert path == tmp_path / "m_int8.onnx"


def find_fakes(name: str) -> Format:
    if name == "litert":
        raise InputError("the LiteRT export needs litert_torch")
    return find_format(name)


@pytest.mark.parametrize(
    ("names", "status", "message"),
    [
        (("onnx", "ncnn"), 0, ""),
        (("ncnn",), 2, "no format can do all that was asked for"),
        (("litert", "ncnn"), 2, "1 of 2 formats could not be written: litert; see above"),
    ],
)
def test_all_leaves_out_what_a_format_cannot_do(
    names: tuple[str, ...],
    status: int,
    message: str,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("ncnn")
    monkeypatch.setattr(export, "NAMES", names)
    monkeypatch.setattr(export, "find_format", find_fakes)
    weights = str(run / "checkpoints" / "best.ckpt")
    options = ["--format", "all", "--dynamic_batch", "--output", str(tmp_path / "m"), WIDTH]
    assert main(["export", CONFIG, "--weights", weights, *options]) == status
    said = capsys.readouterr()
    assert "ncnn: left out: ncnn files take one image at a time; leave --dynamic_batch out\n" in said.out
    assert ("litert: the LiteRT export needs litert_torch\n" in said.out) == ("litert" in names)
    assert message in said.err
    assert {file.name for file in tmp_path.iterdir()} == ({"m.onnx", "m.onnx.json"} if "onnx" in names else set())


class Sized:
    """All of a predictor that brings pictures to the network."""

    input_size = (64, 96)

    def prepare(self, image: np.ndarray) -> np.ndarray:
        return resize(image, self.input_size)


@pytest.mark.parametrize(
    ("there", "size", "source"),
    [
        (True, (64, 96), "validation pictures"),
        (True, (64, 64), "drawn scenes"),  # a network of another size than its data
        (False, (64, 96), "drawn scenes"),
    ],
)
def test_what_is_compared_on(there: bool, size: tuple[int, int], source: str, shapes: Path, tmp_path: Path) -> None:
    root = shapes if there else tmp_path / "nothing"
    data = CocoDataModule(str(root), size, train_split="train", val_split="val")
    images, found = comparison_images(None, None, data, Sized())  # type: ignore[arg-type]  # no whole predictor
    assert found.startswith(source)
    assert images.shape == (5 if source == "validation pictures" else 8, 3, 64, 96)
