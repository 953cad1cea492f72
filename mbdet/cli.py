"""The `mbdet` command: one subcommand per script in tools/."""

import importlib
import sys
from collections.abc import Sequence

from mbdet.errors import InputError

# What only an installation for a device lacks, see the README.
FULL = ("torch", "torchvision", "lightning", "jsonargparse", "albumentations", "pycocotools", "matplotlib")

COMMANDS = {
    "train": "train a model from a config",
    "evaluate": "score a model, or a file of results, on a data set",
    "export": "write a trained model as a file for the device",
    "contract": "print what goes into an exported file and what comes out",
    "sensitivity": "find the layers that suffer from 8-bit integers",
    "predict": "draw what a model finds in pictures",
    "demo": "show what a model finds in a camera's pictures or a video, or in the browser",
    "weights": "list published weights, show and convert weight files",
    "cost": "count parameters, multiply-adds, memory and bytes of a model",
    "benchmark": "time models side by side",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand.

    Args:
        argv: The subcommand and its options; by default those of this process.

    Returns:
        Exit status: 0, or 2 if something the user gave is wrong, which is then said in one line.
    """
    name, *rest = (sys.argv[1:] if argv is None else list(argv)) or ["--help"]
    if name in ("-h", "--help"):
        print("usage: mbdet COMMAND [options]\n")
        for command, purpose in COMMANDS.items():
            print(f"  {command:12} {purpose}")
        print("\nmbdet COMMAND --help tells more.")
        return 0
    try:
        if name not in COMMANDS:
            raise InputError(f"{name}: no such command; there are {', '.join(COMMANDS)}")
        importlib.import_module(f"mbdet.commands.{name}").main(rest)
    except InputError as error:
        print(f"mbdet: error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if error.name not in FULL:
            raise
        print(f"mbdet: error: this needs {error.name}: pip install {error.name}, or all of mbdet", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mbdet: interrupted", file=sys.stderr)
        return 130
    return 0
