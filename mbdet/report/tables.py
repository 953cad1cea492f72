"""Tables of metrics for the terminal, made to read well at 80 columns."""

import math
from collections.abc import Sequence
from typing import Literal

from rich.table import Table
from rich.text import Text

from mbdet.metrics.coco import ClassMetrics, CocoMetrics

# More classes than this stand in two blocks side by side, if names of this length leave the room for it.
_BLOCK_CLASSES = 20
_BLOCK_NAME = 14


def metrics_table(metrics: CocoMetrics) -> Table:
    """Lay out the twelve COCO figures, average precision above average recall.

    Args:
        metrics: Fractions; undefined figures show as "-".
    """
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for name in ("AP", "AP50", "AP75", "APs", "APm", "APl"):
        table.add_column(name, justify="right", no_wrap=True, min_width=6)
    precisions = (metrics.AP, metrics.AP50, metrics.AP75, metrics.APs, metrics.APm, metrics.APl)
    recalls = (metrics.AR1, metrics.AR10, metrics.AR100, metrics.ARs, metrics.ARm, metrics.ARl)
    table.add_row(*(_fraction(value, decimals=4) for value in precisions))
    table.add_row()
    table.add_row("AR1", "AR10", "AR100", "ARs", "ARm", "ARl", style="table.header")
    table.add_row(*(_fraction(value, decimals=4) for value in recalls))
    return table


def class_table(metrics: CocoMetrics, order: Literal["AP", "name"]) -> Table:
    """Lay out the figures of every class; many classes make two blocks, to be read one after the other.

    Args:
        metrics: Fractions; undefined figures show as "-".
        order: By "AP", the best first and the undefined last, or by "name".
    """
    classes = sorted(metrics.per_class.items())
    if order == "AP":
        classes.sort(key=lambda item: -1.0 if math.isnan(item[1].AP) else item[1].AP, reverse=True)
    rows = max(1, len(classes))
    if rows > _BLOCK_CLASSES and all(len(name) <= _BLOCK_NAME for name, _ in classes):
        rows = math.ceil(rows / 2)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_row(*(_class_block(classes[start : start + rows]) for start in range(0, len(classes), rows)))
    return table


def _class_block(classes: Sequence[tuple[str, ClassMetrics]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("class", overflow="fold")  # the only column that may wrap
    for title in ("AP", "AP50", "AR100", "count"):
        table.add_column(title, justify="right", no_wrap=True)
    for name, values in classes:
        figures = (_fraction(value, decimals=3) for value in (values.AP, values.AP50, values.AR100))
        table.add_row(Text(name), *figures, str(values.objects))  # Text, as a name may look like rich's markup
    return table


def _fraction(value: float, decimals: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{decimals}f}"
