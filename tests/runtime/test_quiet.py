"""What libraries say is held back, unless they fail."""

import os
import subprocess
import sys
import tempfile
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


def test_without_a_place_for_a_file_all_is_heard(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: int) -> None:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    free = os.dup(0)
    os.close(free)
    with quiet(), pytest.warns(UserWarning, match="of Python"):
        speak()
    assert capfd.readouterr().err == "of the descriptor\nof the stream\n"
    again = os.dup(0)
    os.close(again)
    assert again == free  # no descriptor is left open


@pytest.mark.parametrize("loss", ["os.close(2)", "sys.stderr = None"])
def test_without_an_error_stream_all_goes_on(loss: str) -> None:
    code = f"import os, sys; from mbdet.runtime.quiet import quiet; {loss}\nwith quiet(): print('done')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "done\n"
