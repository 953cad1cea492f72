"""Print what goes into an exported file and what comes out."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mbdet.runtime.contract import contract
from mbdet.runtime.model_file import read_description


def main(argv: Sequence[str]) -> None:
    """Print it."""
    parser = argparse.ArgumentParser(
        "mbdet contract",
        description="What goes into an exported file and what comes out, as Markdown, from the description beside it.",
        allow_abbrev=False,
    )
    parser.add_argument("file", type=Path, help="exported file of any format, with its description beside it")
    options = parser.parse_args(argv)
    print(contract(options.file, read_description(options.file)), end="")
