"""What stands behind the subcommands of `mbdet`."""

from collections.abc import Sequence
from pathlib import Path


def take_config(arguments: Sequence[str]) -> tuple[Path | None, list[str]]:
    """Take the config out of a command line, wherever it stands: the first argument that ends in .yaml or .yml."""
    rest = list(arguments)
    for index, argument in enumerate(rest):
        if argument.endswith((".yaml", ".yml")) and not argument.startswith("-"):
            return Path(rest.pop(index)), rest
    return None, rest
