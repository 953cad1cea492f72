"""Files that are written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mbdet.errors import InputError


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`, whose file takes the place of `path` if all goes well and else is removed.

    Args:
        path: The file; its folder is made. The temporary name has the same suffix.

    Raises:
        InputError: If it cannot be written.
    """
    temporary = _beside(path)
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Find out before a long computation whether its result can be written; a file that is there stays as it is.

    Args:
        path: The file; its folder is made.

    Raises:
        InputError: If it cannot be written.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give the name of a file")
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _beside(path).touch()
        _beside(path).unlink()


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.stem}.{os.getpid()}.tmp{path.suffix}")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn what goes wrong with the file system into a line that names `path`."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error}); give another place") from error
