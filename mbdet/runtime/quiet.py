"""Silence for libraries that tell a user about their own internals."""

import contextlib
import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from typing import BinaryIO

from mbdet.errors import InputError


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back remarks, warnings and progress bars, and what C++ writes to the error stream.

    Where there is no error stream, or no place for a temporary file, as on some devices, nothing is held back.
    Of the error stream, all comes out if an exception does that may need it: not an `InputError`, which says all.
    """
    opened = _open()
    if opened is None:
        yield
        return
    stream, temporary = opened
    disabled = logging.root.manager.disable
    sys.stderr.flush()
    with (
        temporary as held,
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        os.fdopen(os.dup(held.fileno()), "w", buffering=1) as lines,
        contextlib.redirect_stderr(lines),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except InputError:
            raise
        except BaseException:
            lines.flush()
            held.seek(0)
            os.write(stream, held.read())
            raise
        finally:
            logging.disable(disabled)
            os.dup2(stream, 2)
            os.close(stream)


def _open() -> tuple[int, BinaryIO] | None:
    """Return a copy of the descriptor of the error stream and a file to take its place, where both can be had."""
    if sys.stderr is None:
        return None
    try:
        stream = os.dup(2)  # before the file, which would become descriptor 2 where that is closed
    except OSError:
        return None
    try:
        return stream, tempfile.TemporaryFile(buffering=0)
    except OSError:
        os.close(stream)
        return None
