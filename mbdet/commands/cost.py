"""Say what the network of a config costs."""

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console
from torch import nn

from mbdet.commands import take_config
from mbdet.config import ConfigCLI
from mbdet.cost import NetworkCost, analyse
from mbdet.errors import InputError
from mbdet.models import Detector, MultiTask, Segmenter
from mbdet.report.cost_plot import Mark, plot_published
from mbdet.report.costs import layer_table, operator_table, overview_table, pair_table, summary_table
from mbdet.runtime.files import write_atomically


def main(argv: Sequence[str]) -> None:
    """Print the costs of one config, or of all in a table, and write them if asked to."""
    parser = argparse.ArgumentParser(
        "mbdet cost",
        usage="mbdet cost CONFIG | --all [DIR] [--layers] [--json FILE] [--plot FILE] [--any.value VALUE ...]",
        description="Parameters, multiply-adds, memory and file size of a config's network (mbdet cost CONFIG), or of"
        " all configs in a folder (mbdet cost --all). Nothing is computed, so any size of input takes a moment.",
        epilog="Any value of the config can be overridden: --model.network.backbone.width_mult 0.5.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--all",
        type=Path,
        nargs="?",
        const=Path("configs"),
        metavar="DIR",
        help="a table of every config in a folder (default: configs)",
    )
    parser.add_argument("--layers", action="store_true", help="also list every layer")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the published accuracies, and where this network's cost lies"
    )
    config, rest = take_config(argv)
    options, overrides = parser.parse_known_args(rest)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)  # which seed it took is of no interest here

    console = Console(width=None if Console().is_terminal else 120)
    if options.all is not None and config is None and not (options.layers or options.plot):
        costs = [(path, measure(path, overrides)[1]) for path in configs_in(options.all)]
        console.print(overview_table([(path.stem, cost) for path, cost in costs]))
        content: object = [{"config": str(path), **cost.to_json()} for path, cost in costs]
    elif options.all is None and config is not None:
        network, cost = measure(config, overrides)
        show(console, f"{config.stem}: {type(network).__name__}", cost, options.layers)
        if options.plot is not None:
            if isinstance(network, Segmenter | MultiTask):
                raise InputError(f"--plot: there are no published figures to draw a {network.kind} among; leave it out")
            panel: Literal["ImageNet", "COCO"] = "COCO" if isinstance(network, Detector) else "ImageNet"
            plot_published(Mark(config.stem, cost.madds, panel), options.plot)
            print(f"picture: {options.plot}")
        content = {"config": str(config), **cost.to_json()}
    else:
        raise InputError("cost needs CONFIG [--layers] [--plot FILE], or --all [DIR]")
    if options.json is not None:
        with write_atomically(options.json) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n")
        print(f"figures: {options.json}")


def measure(config: Path, overrides: Sequence[str]) -> tuple[nn.Module, NetworkCost]:
    """Build a config's network and analyse it at its own input size, or else at that of the data.

    Raises:
        InputError: If neither has one.
    """
    cli = ConfigCLI(config, overrides)
    network: nn.Module = cli.model.network
    size = getattr(network, "input_size", None) or getattr(cli.datamodule, "input_size", None)
    if size is None:
        raise InputError(f"{config}: neither model.network nor data has an input_size, which the costs depend on")
    height, width = size
    return network, analyse(network, (int(height), int(width)))


def configs_in(folder: Path) -> list[Path]:
    """Return the configs of a folder in the order of their names.

    Raises:
        InputError: If there are none.
    """
    found = sorted(folder.glob("*.yaml"))
    if not found:
        raise InputError(f"{folder}: no configs here; give their folder with --all DIR")
    return found


def show(console: Console, title: str, cost: NetworkCost, layers: bool) -> None:
    """Print the totals, the shares of the operators and, if asked to, every layer."""
    console.print(title, style="bold", highlight=False, markup=False)
    tables = [summary_table(cost), operator_table(cost)]
    if layers:
        tables += [layer_table(cost), *([pair_table(cost)] if cost.pairs else [])]
    for table in tables:
        console.print()
        console.print(table)
