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
    temporary = path.with_name(f"{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error}); give another place") from error


def check_writable(path: Path) -> None:
    """Find out before a long computation whether its result can be written; a file that is there stays as it is.

    Args:
        path: The file; its folder is made.

    Raises:
        InputError: If it cannot be written.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give the name of a file")
    probe = path.with_name(f"{path.name}.{os.getpid()}.probe")
    with write_atomically(probe) as temporary:
        temporary.touch()
    probe.unlink()
