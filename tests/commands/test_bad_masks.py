"""What is wrong with masks is said in one line by `train` and by `evaluate`, with the file and the cure."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from mbdet.cli import main
from mbdet.config import ConfigCLI

CONFIG = str(Path(__file__).parents[2] / "configs" / "lraspp_v3_small_camvid.yaml")
OPTIONS = ["--data.num_workers=0", "--data.batch_size=2", "--data.input_size=[48,64]"]
OPTIONS += ["--model.network.input_size=[48,64]", "--model.network.backbone.width_mult=0.35"]
TRAINING = ["--trainer.max_steps=2", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]


def of_another_size(mask: Path) -> None:
    Image.open(mask).resize((32, 48)).save(mask)


def of_an_unknown_class(mask: Path) -> None:
    Image.fromarray(np.full((48, 64), 77, dtype=np.uint8)).save(mask)


def in_colour(mask: Path) -> None:
    Image.open(mask).convert("RGB").save(mask)


def missing(mask: Path) -> None:
    mask.unlink()


def black_and_white(mask: Path) -> None:
    for file in mask.parent.iterdir():
        Image.fromarray(np.where(np.asarray(Image.open(file)) > 5, 255, 0).astype(np.uint8)).save(file)


def damaged(mask: Path) -> None:
    mask.write_bytes(mask.read_bytes()[:60])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            of_another_size,
            r"0\.png: the mask is 32x48, its image .* is 64x48 .* resize it without interpolation",
        ),
        (
            of_an_unknown_class,
            r"0\.png: has the value 77, but the 11 classes have 0 to 11.* correct the mask",
        ),
        (in_colour, r"0\.png: the mask is a picture in colour \(RGB\).* look each colour up"),
        (missing, r"masks are missing in .*first \w+annot/0\.png.* copy them there"),
        (
            black_and_white,
            r"0\.png: this mask and others know the values 0 and 255 alone.* save it as 1",
        ),
        (damaged, r"0\.png: cannot be read as a mask .* replace the file"),
    ],
)
@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_bad_masks(
    masks: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: str,
    spoil: Callable[[Path], None],
    message: str,
) -> None:
    root = Path(shutil.copytree(masks, tmp_path / "data"))
    spoil(root / ("trainannot" if command == "train" else "valannot") / "0.png")
    options = [f"--data.root={root}", *OPTIONS]
    if command == "train":
        options += ["--run_dir", str(tmp_path / "run"), *TRAINING]
    else:
        weights = tmp_path / "weights.safetensors"
        options += ["--weights", str(weights)]
        save_weights(weights)
    assert main([command, CONFIG, *options]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    (line,) = [line for line in error.splitlines() if line.startswith("mbdet")]
    assert re.search(message, line), line


def save_weights(path: Path) -> None:
    network = ConfigCLI(Path(CONFIG), OPTIONS).task.network
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, path)
