"""Training curves as a picture."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from mbdet.errors import InputError
from mbdet.runtime.files import write_atomically

# Panels whose curves should rise; the best value of the first of each is marked.
MERITS = {
    "both heads": ["AP_mIoU"],
    "average precision": ["AP", "AP50"],
    "accuracy": ["top1", "top5"],
    "segmentation": ["mIoU", "pixel_accuracy"],
}


def plot_history(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """Plot the losses, the figures of merit and the learning rate of one run over its epochs, a panel each.

    Args:
        rows: One per epoch, in order. The keys are epoch (the row's number where it is missing), the figures of
            `MERITS`, lr, and every loss; others are ignored. Any may be missing or NaN in any
            row; a panel for which there is no value is left out.
        path: Where to write; the suffix, such as .png or .svg, is the format.

    Raises:
        InputError: If no row holds anything to plot.
    """
    # Imported here because it is slow, and without pyplot, which keeps a backend and every figure for the process.
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    losses = dict.fromkeys(key for row in rows for key in row if "_loss" in key or key == "loss")  # each once, in order
    panels = {"loss": list(losses), **MERITS, "learning rate": ["lr"]}
    curves = {title: {key: _points(rows, key) for key in keys} for title, keys in panels.items()}
    curves = {title: {key: points for key, points in panel.items() if points} for title, panel in curves.items()}
    titles = [title for title, panel in curves.items() if panel]
    if not titles:
        merits = ", ".join(key for keys in MERITS.values() for key in keys)
        raise InputError(f"{path}: nothing to plot: no row holds a loss, {merits} or lr; train for at least one epoch")

    figure = Figure(figsize=(8, 0.6 + 2.6 * len(titles)), dpi=120, layout="constrained")
    panes = figure.subplots(len(titles), 1, sharex=True, squeeze=False)[:, 0]
    for axes, title in zip(panes, titles, strict=True):
        for key, points in curves[title].items():
            # A marker shows a run of one epoch, and a value between two missing ones, where a line would show nothing.
            axes.plot(*zip(*points, strict=True), marker=".", markersize=4, linewidth=1.5, label=key)
        first = MERITS[title][0] if title in MERITS else ""
        if first in curves[title]:
            epoch, best = max(curves[title][first], key=lambda point: point[1])
            label = f"best {first} {best:.4f} in epoch {epoch:g}"
            axes.plot(epoch, best, "*", markersize=12, color="black", label=label)
        axes.set_ylabel(title)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        if title in MERITS:
            axes.set_ylim(bottom=0)
    panes[-1].set_xlabel("epoch")
    panes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))

    with write_atomically(path) as temporary:
        figure.savefig(temporary, format=path.suffix.removeprefix("."))


def _points(rows: Sequence[Mapping[str, float]], key: str) -> list[tuple[float, float]]:
    """Return (epoch, value) wherever the value is a finite number."""
    return [
        (row.get("epoch", number), row[key])
        for number, row in enumerate(rows)
        if key in row and math.isfinite(row[key])
    ]
