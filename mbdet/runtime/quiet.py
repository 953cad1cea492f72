"""Silence for libraries that tell a user about their own internals."""

import contextlib
import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator

from mbdet.errors import InputError


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back remarks, warnings and progress bars, and what C++ writes to the error stream.

    Of the error stream, all comes out if an exception does that may need it: not an `InputError`, which says all.
    """
    disabled = logging.root.manager.disable
    sys.stderr.flush()
    with (
        tempfile.TemporaryFile(buffering=0) as held,
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        os.fdopen(os.dup(held.fileno()), "w", buffering=1) as lines,
        contextlib.redirect_stderr(lines),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        stream = os.dup(2)
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
