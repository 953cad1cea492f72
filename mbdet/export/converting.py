"""One line for whatever the converters and quantisers of other libraries raise."""

from collections.abc import Iterator
from contextlib import contextmanager

from mbdet.errors import InputError, first_line
from mbdet.runtime.quiet import quiet


@contextmanager
def converting(name: str) -> Iterator[None]:
    """Keep a format's converter or quantiser quiet, and say in a line why it fails.

    Args:
        name: Of the format, as people write it.

    Raises:
        InputError: If it fails, for whatever reason.
    """
    with quiet():
        try:
            yield
        except (InputError, MemoryError):
            raise
        except OSError as error:
            raise InputError(
                f"{name}'s converter cannot read or write ({first_line(error)}); make room for its temporary files"
            ) from error
        except Exception as error:  # converters have no classes of their own for what they do not know
            raise InputError(
                f"{name}'s converter refuses the network ({_reason(error)}); build it from other operators, or choose"
                " another format or precision"
            ) from error


def _reason(error: BaseException) -> str:
    """Return what the first of a chain of exceptions says that says anything."""
    reason = first_line(error)
    while error.__cause__ is not None:
        error = error.__cause__
        if str(error).strip():
            reason = first_line(error)
    return reason
