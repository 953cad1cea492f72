"""Time the networks of configs side by side."""

import argparse
import json
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from mbdet.commands import benchmark_formats
from mbdet.config import ConfigCLI
from mbdet.errors import InputError
from mbdet.predictor import settle
from mbdet.runtime.files import write_atomically
from mbdet.runtime.timing import in_turns


def main(argv: Sequence[str]) -> None:
    """Print what each network takes, and the first beside all others, and write the times if asked to."""
    if argv[:1] == ["formats"]:
        benchmark_formats.main(argv[1:])
        return
    parser = argparse.ArgumentParser(
        "mbdet benchmark",
        description="Time the networks of one or more configs, with random weights and without decoding. They take"
        " turns, so that whatever else the machine does meets all alike. Beside several others, the first is also"
        " compared with all of them one after the other: a multitask network with the single ones that it replaces."
        " `mbdet benchmark formats` compares the files that one network is exported to.",
        allow_abbrev=False,
    )
    parser.add_argument("configs", type=Path, nargs="+", metavar="CONFIG", help="YAML files, see configs/")
    parser.add_argument("--rounds", type=int, default=50, help="how often each is timed (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=1, help="images at once (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of PyTorch (default: %(default)s)")
    parser.add_argument("--device", help="cpu, cuda, ... (default: the GPU if there is one)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the times here")
    options = parser.parse_args(argv)
    if min(options.rounds, options.batch, options.threads) < 1:
        raise InputError("benchmark: --rounds, --batch and --threads are numbers from 1 up")

    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)  # which seed it took is of no interest here
    torch.set_num_threads(options.threads)
    networks = [ConfigCLI(config).task.network for config in options.configs]
    devices = [settle(network, options.device) for network in networks]
    inputs = [
        torch.randint(256, (options.batch, 3, *network.input_size), dtype=torch.uint8, device=device).contiguous(
            memory_format=torch.channels_last  # as data modules and predictors give them
        )
        for network, device in zip(networks, devices, strict=True)
    ]
    with torch.inference_mode():
        runs = [partial(_run, *pair) for pair in zip(networks, inputs, strict=True)]
        seconds = in_turns(runs, options.rounds)
    names = [config.stem for config in options.configs]
    medians = np.median(seconds, axis=1) * 1000
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for title in ("config", "input", "median ms", "least ms"):
        table.add_column(title, justify="left" if title == "config" else "right", no_wrap=True)
    for name, network, times, median in zip(names, networks, seconds, medians, strict=True):
        height, width = network.input_size
        table.add_row(name, f"{height}x{width}", f"{median:.2f}", f"{times.min() * 1000:.2f}")
    Console(width=None if Console().is_terminal else 100).print(table)
    ratios = first_to_others(seconds)
    if ratios is not None:
        low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
        others = " and ".join(names[1:])
        print(f"{names[0]} takes {middle:.3f} of the time of {others}, one after the other")
        print(f"(median of {options.rounds} rounds; half of them lie from {low:.3f} to {high:.3f})")
    if options.json is not None:
        content = {
            "device": str(devices[0]),
            "threads": options.threads,
            "batch": options.batch,
            "seconds": {name: times.tolist() for name, times in zip(names, seconds, strict=True)},
        }
        with write_atomically(options.json) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n")
        print(f"times: {options.json}")


def _run(network: nn.Module, images: Tensor, _: int) -> None:
    network(images)
    if images.is_cuda:
        torch.cuda.synchronize(images.device)


def first_to_others(seconds: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Divide the first network's time by the sum of the others', round by round.

    Args:
        seconds: (N, R), as `in_turns` returns them.

    Returns:
        (R,); None if there are no others.
    """
    return None if len(seconds) < 2 else seconds[0] / seconds[1:].sum(axis=0)
