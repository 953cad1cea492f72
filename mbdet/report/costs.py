"""Tables of what a network costs, made to read well at 100 columns."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from mbdet.cost import NetworkCost


def summary_table(cost: NetworkCost) -> Table:
    """Lay out the totals, one a line.

    Args:
        cost: Of one network.
    """
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim")
    height, width = cost.input_size
    table.add_row("input", f"{height} x {width}", "height x width, one image")
    table.add_row("parameters", f"{cost.parameters:,}", f"{cost.parameters_without_bn:,} without batch norms")
    table.add_row("multiply-adds", f"{_millions(cost.madds)} M", "convolutions and fully connected layers")
    table.add_row("activations", f"{_millions(cost.activations)} M", "elements of all their outputs")
    table.add_row(
        "peak features",
        f"{cost.peak.elements * 4 / 1e6:,.2f} MB",
        f"float32; {_millions(cost.peak.elements)} M elements at {cost.peak.at}",
    )
    for name, size in cost.file._asdict().items():
        table.add_row(f"weights, {name}", f"{size / 1e6:,.2f} MB", "batch norms folded")
    if cost.pairs:
        separable, standard = cost.separable, cost.standard
        table.add_row(
            "separable convs",
            f"{separable.madds / standard.madds:.4f}",
            f"of the standard ones' multiply-adds: {_millions(separable.madds)} M for {_millions(standard.madds)} M",
        )
        table.add_row(
            "",
            f"{separable.weights / standard.weights:.4f}",
            f"of their weights: {_millions(separable.weights)} M for {_millions(standard.weights)} M",
        )
    return table


def operator_table(cost: NetworkCost) -> Table:
    """Lay out the share of each kind of layer in multiply-adds and weights (V1 paper, Table 2)."""
    table = _table("operator")
    for title in ("layers", "MAdds (M)", "share", "weights", "share"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in cost.operators():
        table.add_row(
            row.kind,
            str(row.layers),
            _millions(row.madds),
            _percent(row.madds_share),
            f"{row.weights:,}",
            _percent(row.weights_share),
        )
    return table


def layer_table(cost: NetworkCost) -> Table:
    """Lay out every layer in the order of execution."""
    table = _table("layer")
    table.add_column("kind", no_wrap=True)
    for title in ("kernel", "output", "parameters", "MAdds (M)", "share"):
        table.add_column(title, justify="right", no_wrap=True)
    for layer in cost.layers:
        table.add_row(
            Text(layer.name),
            layer.kind,
            "x".join(map(str, layer.kernel_size)),
            "x".join(map(str, layer.out_shape)),
            f"{layer.parameters:,}",
            _millions(layer.madds),
            _percent(layer.madds / max(1, cost.madds)),
        )
    return table


def pair_table(cost: NetworkCost) -> Table:
    """Lay out every depthwise separable convolution against the standard one that it replaces."""
    table = _table("depthwise, with the 1x1 after it")
    for title in ("MAdds (M)", "standard (M)", "weights", "standard", "1/N + 1/Dk²"):
        table.add_column(title, justify="right", no_wrap=True)
    for pair in cost.pairs:
        table.add_row(
            Text(pair.depthwise.name),
            _millions(pair.separable.madds),
            _millions(pair.standard.madds),
            f"{pair.separable.weights:,}",
            f"{pair.standard.weights:,}",
            f"{pair.ratio:.4f}",
        )
    return table


def overview_table(costs: Sequence[tuple[str, NetworkCost]]) -> Table:
    """Lay out several networks, one a line.

    Args:
        costs: Names and costs, in the order of the rows.
    """
    table = _table("config")
    for title in ("input", "params (M)", "MAdds (B)", "1x1", "peak (MB)", "fp32 (MB)", "int8 (MB)"):
        table.add_column(title, justify="right", no_wrap=True)
    for name, cost in costs:
        pointwise = sum(row.madds_share for row in cost.operators() if row.kind == "1x1")
        table.add_row(
            Text(name),
            "x".join(map(str, cost.input_size)),
            f"{cost.parameters / 1e6:.2f}",
            f"{cost.madds / 1e9:.3f}",
            _percent(pointwise),
            f"{cost.peak.elements * 4 / 1e6:.2f}",
            f"{cost.file.fp32 / 1e6:.2f}",
            f"{cost.file.int8 / 1e6:.2f}",
        )
    return table


def _table(first: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(first, overflow="fold")  # the only column that may wrap
    return table


def _millions(value: int) -> str:
    return f"{value / 1e6:,.2f}"


def _percent(fraction: float) -> str:
    return f"{fraction * 100:.2f} %"
