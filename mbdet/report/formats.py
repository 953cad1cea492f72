"""What the files of one network are worth beside each other, as a table and as a picture."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from mbdet.runtime.files import write_atomically

# Of Okabe and Ito, whose colours the colour-blind tell apart too.
_COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = {"fp32": "o", "fp16": "s", "int8": "^"}


@dataclass
class Row:
    """One file, or the checkpoint itself.

    Args:
        format: What runs it.
        precision: What the network computes with.
        score: What the task monitors, such as AP, as a fraction.
        seconds: Of every timed run, by the number of threads.
        bytes: Size of the file and what belongs to it.
        memory: Bytes that loading and running it takes at most; None if it was not measured.
        agrees_on: What the comparison with the checkpoint said.
        undelegated: How often each operator is left to a slow general implementation; None if the engine has no such.
    """

    format: str
    precision: str
    score: float
    seconds: dict[int, list[float]]
    bytes: int
    memory: int | None
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
    for title in (monitor, "drop", *times, "MB", "memory MB", "not delegated"):
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
            "-" if row.undelegated is None else str(sum(row.undelegated.values())),
        )
    return table


def to_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return all figures, ready for JSON."""
    return [asdict(row) for row in rows]


def plot_formats(rows: Sequence[Row], monitor: str, title: str, path: Path) -> None:
    """Plot the score over the time of one image, on the fewest threads.

    Args:
        rows: The checkpoint first.
        monitor: Name of the score.
        title: Above the picture.
        path: Where to write.
    """
    from matplotlib.figure import Figure  # slow to import

    figure = Figure(figsize=(9, 5.5), dpi=120, layout="constrained")
    axes = figure.subplots()
    threads = min(rows[0].seconds)
    engines = list(dict.fromkeys(row.format for row in rows))
    for row in rows:
        colour = _COLOURS[engines.index(row.format) % len(_COLOURS)]
        axes.plot(row.milliseconds(threads), row.score, _MARKERS[row.precision], color=colour, markersize=9, alpha=0.85)
    for engine in engines:
        axes.plot([], [], "o", color=_COLOURS[engines.index(engine) % len(_COLOURS)], label=engine)
    for precision in dict.fromkeys(row.precision for row in rows):
        axes.plot([], [], _MARKERS[precision], color="0.5", label=precision)
    axes.axhline(rows[0].score, color="0.8", linewidth=1, zorder=0)
    # A fall of a hundredth must not look like a collapse.
    scores = [row.score for row in rows]
    middle, half = (max(scores) + min(scores)) / 2, max(0.025, max(scores) - min(scores))
    axes.set_ylim(middle - half, middle + half)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"milliseconds an image on {threads} thread{'s' * (threads != 1)} (median)")
    axes.set_ylabel(monitor)
    axes.set_title(title, fontsize=11)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=2)
    with write_atomically(path) as temporary:
        figure.savefig(temporary, format=path.suffix.removeprefix("."))
