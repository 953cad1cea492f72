"""What libraries say is held back, unless they fail."""

import os
import sys
import warnings

import pytest

from mbdet.export.quiet import quiet


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


def fail() -> None:
    speak()
    raise ZeroDivisionError


def test_a_failure_lets_it_out(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), quiet():
        fail()
    assert capfd.readouterr().err == "of the descriptor\nof the stream\n"
