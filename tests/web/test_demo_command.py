"""The demo from the command line."""

import json
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mbdet.cli import main

TOOL = Path(__file__).parents[2] / "tools" / "demo.py"


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Let interrupts arrive here and in what is started: in a shell's background, programs inherit to ignore them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_page_is_served_until_interrupted(models: Callable[[str], Path], engine: Path) -> None:
    command = [sys.executable, str(TOOL), str(models("detection")), "--web", "--port", "0", "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = re.match(r"(http://127\.0\.0\.1:\d+/) \(Ctrl\+C ends it\)", line)
        try:
            assert url is not None, line
            with urllib.request.urlopen(f"{url[1]}model.json", timeout=10) as response:
                assert json.load(response)["task"] == "detection"
        finally:
            process.send_signal(signal.SIGINT)
            try:
                out, err = process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()  # for which leaving this block would wait without an end
                raise
    assert (process.returncode, out, err) == (0, "", "")


def test_the_page_is_opened(models: Callable[[str], Path], engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = {}

    def open_and_interrupt(url: str) -> None:  # as a browser in the terminal, which returns late
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                opened[url] = response.status
        finally:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("webbrowser.open", open_and_interrupt)
    main(["demo", str(models("detection")), "--web", "--port", "0"])
    (url,) = opened
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", url)
    assert opened[url] == 200


def test_the_page_is_written(
    models: Callable[[str], Path], engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", str(models("detection")), "--web", "--build", str(tmp_path / "page")]) == 0
    assert capsys.readouterr().out == f"page: {tmp_path}/page/, to be served over https by any web server, as it is\n"
    assert (tmp_path / "page" / "index.html").is_file()


def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    for name, problem in (("model.onnx", "ONNX Runtime cannot load it"), ("none.onnx", "no such model file")):
        assert main(["demo", str(tmp_path / name), "--web"]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith(f"mbdet: error: {tmp_path}/{name}: {problem}")
        assert captured.err.count("\n") == 1
