"""Find the layers of a trained model that suffer from 8-bit integers."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from mbdet.commands.export import spread_pictures
from mbdet.config import ConfigCLI
from mbdet.errors import InputError
from mbdet.export.sensitivity import Decibels, LayerNoise, Probe, clearly_worse
from mbdet.runtime.files import check_writable, write_atomically

_SHOWN = 15  # layers at most


def main(argv: Sequence[str]) -> None:
    """Print the layers that suffer most, and which of them to leave in float."""
    parser = argparse.ArgumentParser(
        "mbdet sensitivity",
        description="Quantise each convolution and fully connected layer alone to 8 bits, in simulation, and compare"
        " the network's raw outputs with those in float: as a signal-to-noise ratio in decibels, where 6 less is twice"
        " the error. Layers that lie below the median of an output by 6 dB and by three standard deviations are"
        " suggested for mbdet export --keep_float.",
        epilog="Any value of the config can be overridden: --model.network.input_size [320,320].",
        allow_abbrev=False,
    )
    parser.add_argument("config", type=Path, help="a YAML file, see configs/")
    parser.add_argument("--weights", required=True, help="checkpoint, safetensors, or published npz or name")
    parser.add_argument(
        "--calibration",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="pictures such as the device will see, to learn the ranges of activations from and to compare on",
    )
    parser.add_argument("--images", type=int, default=16, help="how many of them, evenly spread (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the ratios of all layers here")
    options, overrides = parser.parse_known_args(argv)
    if options.images < 1:
        raise InputError("--images is a number from 1 up")
    if options.json is not None:
        check_writable(options.json)
    cli = ConfigCLI(options.config, overrides)
    predictor = cli.predictor(options.weights)
    images = spread_pictures(options.calibration, options.images, predictor.prepare)

    probe = Probe(cli.task.network, images)
    progress = Console(stderr=True)
    names = track(probe.layers, "Quantising", console=progress, transient=True)
    found = sorted(map(probe.measure, names), key=lambda layer: layer.worst)
    kept = clearly_worse(found)
    together = {"all layers": probe.decibels(list(probe.layers))}
    if kept:
        together["all but those below"] = probe.decibels([name for name in probe.layers if name not in kept])
    console = Console(width=None if Console().is_terminal else 100)
    console.print(noise_table(found, together))
    if len(found) > _SHOWN:
        print(f"the worst {_SHOWN} of {len(found)} layers, each quantised alone; {len(images)} images")
    if kept:
        print("clearly worse than the rest, so with int8 try")
        print(f"--keep_float {' '.join(kept)}")
    else:
        print("no layer is clearly worse than the rest")
    if options.json is not None:
        content = {
            "images": len(images),
            "layers": [
                {"name": layer.name, "kind": layer.kind, "share": layer.share, "decibels": finite(layer.decibels)}
                for layer in found
            ],
            "together": {title: finite(ratios) for title, ratios in together.items()},
            "keep_float": kept,
        }
        with write_atomically(options.json) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n")
        print(f"ratios: {options.json}")


def noise_table(found: Sequence[LayerNoise], together: Mapping[str, Decibels]) -> Table:
    """Lay out the worst layers, and below them several quantised at once.

    Args:
        found: All layers, worst first.
        together: Ratios by what the line is called.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("layer", overflow="fold")  # the only column that may wrap
    table.add_column("kind", no_wrap=True)
    for title in ("weights", *(f"{output} (dB)" for output in found[0].decibels)):
        table.add_column(title, justify="right", no_wrap=True)
    for layer in found[:_SHOWN]:
        ratios = map(_decibels, layer.decibels.values())
        table.add_row(Text(layer.name), layer.kind, f"{layer.share * 100:.2f} %", *ratios)
    for title, of_several in together.items():
        table.add_row(title, "", "", *map(_decibels, of_several.values()), style="bold")
    return table


def finite(ratios: Decibels) -> dict[str, float | None]:
    """Return ratios ready for JSON, which has no infinity: None where nothing changed."""
    return {output: ratio if np.isfinite(ratio) else None for output, ratio in ratios.items()}


def _decibels(ratio: float) -> str:
    return f"{ratio:.1f}" if np.isfinite(ratio) else "unchanged"
