"""Tables of metrics for the terminal, made to read well at 80 columns."""

import math
from collections.abc import Sequence
from typing import Literal

from rich.table import Table
from rich.text import Text

from mbdet.metrics.coco import ClassMetrics, CocoMetrics
from mbdet.metrics.voc import VocClassMetrics, VocMetrics

# More classes than this stand in two blocks side by side, if names of this length leave the room for it.
_BLOCK_CLASSES = 20
_BLOCK_NAME = 14


def metrics_table(metrics: CocoMetrics) -> Table:
    """Lay out the twelve COCO figures, average precision above average recall, and VOC's two if they are there.

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
    if isinstance(metrics, VocMetrics):
        table.add_row()
        table.add_row("AP50_voc07", "AP50_voc", style="table.header")
        table.add_row(*(_fraction(value, decimals=4) for value in (metrics.AP50_voc07, metrics.AP50_voc)))
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
    narrow = not isinstance(metrics, VocMetrics) and all(len(name) <= _BLOCK_NAME for name, _ in classes)
    if rows > _BLOCK_CLASSES and narrow:
        rows = math.ceil(rows / 2)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_row(*(_class_block(classes[start : start + rows]) for start in range(0, len(classes), rows)))
    return table


def _class_block(classes: Sequence[tuple[str, ClassMetrics]]) -> Table:
    titles = ["AP", "AP50", "AR100"]
    if isinstance(classes[0][1], VocClassMetrics):
        titles += ["AP50_voc07", "AP50_voc"]
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("class", overflow="fold")  # the only column that may wrap
    for title in (*titles, "count"):
        table.add_column(title, justify="right", no_wrap=True)
    for name, values in classes:
        figures = (_fraction(getattr(values, title), decimals=3) for title in titles)
        table.add_row(Text(name), *figures, str(values.objects))  # Text, as a name may look like rich's markup
    return table


def _fraction(value: float, decimals: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{decimals}f}"
