"""What the files of one network are worth beside each other, as a table and as a picture."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from mbdet.runtime.files import write_atomically

# Of Okabe and Ito, whose colours the colour-blind tell apart too.
COLOURS = {"fp32": "#0072B2", "fp16": "#56B4E9", "int8": "#D55E00"}
_GAP = 0.6  # between the lines of two engines


@dataclass
class Row:
    """One file, or the checkpoint itself.

    Args:
        format: What runs it.
        precision: What the network computes with.
        score: What the task monitors, such as AP, as a fraction.
        seconds: Of every timed run, by the number of threads.
        bytes: Size of the file and what belongs to it; of the checkpoint, of the network's tensors.
        memory: Bytes that loading and running it takes at most; None if it was not measured.
        share: Of what was compared with the checkpoint when the file was written, what agrees; None for the checkpoint.
        agrees_on: What that comparison said.
        undelegated: How often each operator is left to a slow general implementation; None if the engine has no such.
    """

    format: str
    precision: str
    score: float
    seconds: dict[int, list[float]]
    bytes: int
    memory: int | None
    share: float | None
    agrees_on: str
    undelegated: dict[str, int] | None

    def milliseconds(self, threads: int) -> float:
        """Return the median time of one image."""
        return float(np.median(self.seconds[threads])) * 1000


def formats_table(rows: Sequence[Row], monitor: str) -> Table:
    """Lay out one line for each file.

    Args:
        rows: The checkpoint first.
        monitor: Name of the score.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("format", "precision"):
        table.add_column(title, no_wrap=True)
    threads = list(rows[0].seconds)
    times = [f"ms, {n} thread{'s' * (n != 1)}" for n in threads]
    for title in (monitor, "drop", *times, "MB", "memory MB", "parity", "not delegated"):
        table.add_column(title, justify="right")
    for row in rows:
        lost = rows[0].score - row.score
        table.add_row(
            row.format,
            row.precision,
            f"{row.score:.4f}",
            "-" if row is rows[0] else f"{lost:+.4f}",
            *(f"{row.milliseconds(n):.1f}" for n in threads),
            f"{row.bytes / 1e6:.1f}",
            "-" if row.memory is None else f"{row.memory / 1e6:.0f}",
            "-" if row.share is None else f"{row.share:.1%}",
            "-" if row.undelegated is None else str(sum(row.undelegated.values())),
        )
    return table


def to_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return all figures, ready for JSON."""
    return [asdict(row) for row in rows]


def plot_formats(rows: Sequence[Row], monitor: str, title: str, path: Path) -> None:
    """Plot the time of one image, on the fewest threads, and beside it the score, one line for each file.

    Args:
        rows: The checkpoint first.
        monitor: Name of the score.
        title: Above the picture.
        path: Where to write.
    """
    from matplotlib.figure import Figure  # slow to import

    threads = min(rows[0].seconds)
    times = [row.milliseconds(threads) for row in rows]
    scores = [row.score for row in rows]
    colours = [COLOURS[row.precision] for row in rows]
    engines = list(dict.fromkeys(row.format for row in rows))
    heights = [number + _GAP * engines.index(row.format) for number, row in enumerate(rows)]

    figure = Figure(figsize=(10, 1.8 + 0.27 * heights[-1]), dpi=120)
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.08)
    time_axes, score_axes = figure.subplots(1, 2, sharey=True, width_ratios=(1.4, 1))
    bars = time_axes.barh(heights, times, height=0.8, color=colours)
    time_axes.bar_label(bars, [f"{time:.1f}" for time in times], padding=3, fontsize=8)
    time_axes.set_xlim(0, max(times) * 1.1)
    time_axes.set_xlabel(f"milliseconds an image on {threads} thread{'s' * (threads != 1)} (median)")
    middles = [np.mean([y for y, row in zip(heights, rows, strict=True) if row.format == name]) for name in engines]
    time_axes.set_yticks(middles, engines)
    time_axes.invert_yaxis()

    score_axes.axvline(scores[0], color="0.6", linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    score_axes.scatter(scores, heights, s=36, color=colours, zorder=3)
    # A fall of a hundredth must not look like a collapse, and the figures need room on the right.
    spread = max(0.05, max(scores) - min(scores))
    middle = (max(scores) + min(scores)) / 2
    score_axes.set_xlim(middle - 0.6 * spread, middle + 0.8 * spread)
    for score, height in zip(scores, heights, strict=True):
        score_axes.annotate(
            f"{score:.4f}",
            (score, height),
            (7, 0),
            textcoords="offset points",
            fontsize=8,
            verticalalignment="center",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},  # over the dashes
        )
    score_axes.set_xlabel(f"{monitor} (a fraction of 1; dashed: the checkpoint's)")

    for axes in (time_axes, score_axes):
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", alpha=0.25, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    precisions = dict.fromkeys(row.precision for row in rows)
    handles = [time_axes.barh(0, 0, color=COLOURS[precision], label=precision) for precision in precisions]
    figure.legend(handles=handles, loc="outside upper right", frameon=False, ncols=len(handles))
    figure.suptitle(title, x=0.012, horizontalalignment="left", fontsize=11)
    with write_atomically(path) as temporary:
        figure.savefig(temporary, format=path.suffix.removeprefix("."))
