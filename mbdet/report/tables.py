"""Tables of metrics for the terminal, made to read well at 80 columns."""

import math
from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from mbdet.metrics.base import Metrics

_ROW_FIGURES = 6
# More classes than this stand in two blocks side by side, if names of this length and so many figures leave the room.
_BLOCK_CLASSES = 20
_BLOCK_NAME = 14
_BLOCK_FIGURES = 4

Figures = Mapping[str, float | None]


def metrics_table(metrics: Metrics) -> Table:
    """Lay out the figures of an evaluation, six to a row.

    Args:
        metrics: Fractions; undefined figures show as "-".
    """
    figures = [(name, value) for name, value in metrics.to_json().items() if name != "per_class"]
    rows = [figures[start : start + _ROW_FIGURES] for start in range(0, len(figures), _ROW_FIGURES)]
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for name, _ in rows[0]:
        table.add_column(name, justify="right", no_wrap=True, min_width=6)
    for index, row in enumerate(rows):
        if index:
            table.add_row()
            table.add_row(*(name for name, _ in row), style="table.header")
        table.add_row(*(_figure(value, decimals=4) for _, value in row))
    return table


def class_table(metrics: Metrics, order: str) -> Table:
    """Lay out the figures of every class; many classes make two blocks, to be read one after the other.

    Args:
        metrics: Fractions, and counts; undefined figures show as "-".
        order: By "name", or by one of the figures, the best first and the undefined last.
    """
    classes: list[tuple[str, Figures]] = sorted(metrics.to_json()["per_class"].items())
    if order != "name":
        classes.sort(key=lambda item: _rank(item[1][order]), reverse=True)
    rows = max(1, len(classes))
    narrow = all(len(name) <= _BLOCK_NAME and len(values) <= _BLOCK_FIGURES for name, values in classes)
    if rows > _BLOCK_CLASSES and narrow:
        rows = math.ceil(rows / 2)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_row(*(_class_block(classes[start : start + rows]) for start in range(0, len(classes), rows)))
    return table


def _class_block(classes: Sequence[tuple[str, Figures]]) -> Table:
    counts = {name for _, values in classes for name, value in values.items() if isinstance(value, int)}
    names = sorted(classes[0][1], key=lambda name: name in counts)  # the counts last
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("class", overflow="fold")  # the only column that may wrap
    for name in names:
        table.add_column("count" if counts == {name} else name, justify="right", no_wrap=True)
    for title, values in classes:
        # Text, as a name may look like rich's markup.
        table.add_row(Text(title), *(_figure(values[name], decimals=3) for name in names))
    return table


def _rank(value: float | None) -> float:
    return -1.0 if value is None else value


def _figure(value: float | None, decimals: int) -> str:
    return "-" if value is None else str(value) if isinstance(value, int) else f"{value:.{decimals}f}"
