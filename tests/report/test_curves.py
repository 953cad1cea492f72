"""Training curves, read back from the SVG, whose comments are the texts in the picture."""

import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mbdet.errors import InputError
from mbdet.report.curves import plot_history

ROWS: list[dict[str, float]] = [
    {"epoch": 0, "train_loss": 8.0, "lr": 0.01},
    {"epoch": 1, "train_loss": 5.0, "val_loss": 5.5, "AP": 0.1, "AP50": 0.2, "lr": 0.05},
    {"epoch": 2, "train_loss": math.nan, "val_loss": 4.5, "AP": 0.25, "AP50": 0.4, "lr": 0.03},
    {"epoch": 3, "train_loss": 4.0, "val_loss": 4.25, "AP": 0.2, "AP50": 0.5, "lr": 0.0},
]


def texts(path: Path) -> set[str]:
    return set(re.findall(r"<!-- (.*?) -->", path.read_text()))


def test_panels_and_the_best_epoch(tmp_path: Path) -> None:
    path = tmp_path / "new" / "curves.svg"
    plot_history(ROWS, path)
    assert [file.name for file in path.parent.iterdir()] == ["curves.svg"]
    assert texts(path) >= {
        *("loss", "train_loss", "val_loss"),
        *("average precision", "AP", "AP50", "best AP 0.2500 in epoch 2"),
        *("learning rate", "lr"),
        "epoch",
    }


def test_missing_keys_leave_their_panel_out(tmp_path: Path) -> None:
    path = tmp_path / "curves.svg"
    plot_history([{"AP": 0.5}, {"train_loss": math.inf, "AP": 0.75, "seconds": 3.0}], path)
    assert "best AP 0.7500 in epoch 1" in texts(path)  # without an epoch, the number of the row
    assert not texts(path) & {"loss", "train_loss", "learning rate", "seconds"}

    plot_history([{"epoch": 5, "train_loss": 1.0, "box_loss": 0.5}], path)
    assert texts(path) >= {"loss", "train_loss", "box_loss", "epoch", "5"}
    assert not texts(path) & {"average precision", "learning rate"}


def test_accuracy_of_a_classifier_has_its_panel(tmp_path: Path) -> None:
    path = tmp_path / "curves.svg"
    plot_history([{"top1": 0.5, "top5": 0.75}, {"top1": 0.25, "top5": 0.875}], path)
    assert texts(path) >= {"accuracy", "top1", "top5", "best top1 0.5000 in epoch 0"}
    assert "average precision" not in texts(path)


def test_png_grows_with_its_panels(tmp_path: Path) -> None:
    heights = []
    for name, keys in (("one", {"lr"}), ("three", {"epoch", "train_loss", "AP", "lr"})):
        path = tmp_path / f"{name}.png"
        plot_history([{key: value for key, value in row.items() if key in keys} for row in ROWS], path)
        with Image.open(path) as picture:
            heights.append(picture.height)
            assert np.asarray(picture.convert("L")).std() > 5
    assert heights[1] > 2 * heights[0]


@pytest.mark.parametrize("rows", [[], [{"epoch": 0, "seconds": 3.0}], [{"train_loss": math.nan}]])
def test_nothing_to_plot(rows: list[dict[str, float]], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to plot"):
        plot_history(rows, tmp_path / "curves.png")
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "curves.png"
    path.mkdir()  # cannot be replaced by a file
    with pytest.raises(InputError, match=r"curves\.png: cannot be written"):
        plot_history(ROWS, path)
    assert list(tmp_path.iterdir()) == [path]


def test_matplotlib_is_imported_late_and_pyplot_never(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from mbdet.report.curves import plot_history\n"
        "assert 'matplotlib' not in sys.modules\n"
        f"plot_history([{{'lr': 1.0}}], Path({str(tmp_path / 'curves.png')!r}))\n"
        "assert 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
