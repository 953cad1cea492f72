"""What libraries say is held back, unless they fail."""

import os
import sys
import warnings

import pytest

from mbdet.errors import InputError
from mbdet.runtime.quiet import quiet


def speak() -> None:
    os.write(2, b"of the descriptor\n")
    print("of the stream", file=sys.stderr)
    warnings.warn("of Python", stacklevel=1)


def test_nothing_is_heard_while_all_is_well(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet():
        speak()
    assert capfd.readouterr() == ("", "")
    os.write(2, b"after")
    print("wards", file=sys.stderr)
    assert capfd.readouterr().err == "afterwards\n"


def fail(error: Exception) -> None:
    speak()
    raise error


@pytest.mark.parametrize(
    ("error", "heard"),
    [
        (ZeroDivisionError(), "of the descriptor\nof the stream\n"),
        (InputError("m.any: is damaged; write it again"), ""),  # which says all
    ],
)
def test_a_failure_that_needs_it_lets_it_out(error: Exception, heard: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(type(error)), quiet():
        fail(error)
    assert capfd.readouterr().err == heard
