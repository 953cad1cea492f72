import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mbdet.demo.sources import VideoFile
from mbdet.demo.views import CODECS, Window, write_video
from mbdet.errors import InputError

RED, BLUE = (np.full((48, 64, 3), colour, np.uint8) for colour in ((250, 10, 10), (10, 10, 250)))


@pytest.mark.parametrize("suffix", CODECS)
def test_a_video_plays_in_time(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / f"out{suffix}"
    with write_video(path, rate=10) as view:
        for image, seconds in ((RED, 0.0), (BLUE, 0.31), (RED, 0.32), (BLUE, 0.4)):  # one late, one too soon after
            view.show(image, seconds)
        assert not path.exists()
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    source = VideoFile(path)
    colours = [frame.image[20, 20].argmax() for frame in iter(source.read, None)]
    assert colours == [0, 2, 2, 2, 2]
    assert source.rate == pytest.approx(10, abs=0.1)


def test_a_video_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_text("an older one")

    def fail() -> None:
        with write_video(path, rate=10) as view:
            view.show(RED, 0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [file.read_text() for file in tmp_path.iterdir()] == ["an older one"]


def test_a_video_of_no_kind(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a video is called something\.mp4"), write_video(tmp_path / "a.gif", 10):
        pass


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"a\.mp4: cannot be written"), write_video(tmp_path / "file" / "a.mp4", 10):
        pass


def test_a_disk_that_is_full_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    def lose_one() -> None:
        with write_video(tmp_path / "a.avi", 10) as view:
            view.show(RED, 0)
            view.show(RED, 0.1)
            view.written += 1  # as if OpenCV had lost it

    with pytest.raises(InputError, match="holds 2 of 3 pictures; is the disk full"):
        lose_one()
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def screen() -> Iterator[None]:
    """A screen: the one that there is, or else a virtual one, where Xvfb is installed."""
    pytest.importorskip("tkinter")
    if os.environ.get("DISPLAY") or sys.platform in ("win32", "darwin"):
        yield
        return
    if not shutil.which("Xvfb"):
        pytest.skip("no screen, and no Xvfb")
    read, write = os.pipe()
    server = subprocess.Popen(["Xvfb", "-displayfd", str(write), "-screen", "0", "200x150x24"], pass_fds=[write])
    os.environ["DISPLAY"] = f":{os.read(read, 8).decode().strip()}"
    yield
    del os.environ["DISPLAY"]
    server.terminate()
    server.wait()


@pytest.mark.usefixtures("screen")
def test_a_window_shows_waits_and_is_closed() -> None:
    window = Window("test")
    window.show(RED, 0)
    assert (window._photo.width(), window._photo.height()) == (64, 48)
    window.show(np.zeros((300, 400, 3), np.uint8), 0)  # the screen may be smaller
    assert window._photo.width() <= window._limits[0]
    assert window._photo.height() <= window._limits[1]
    window.wait(0.01)
    assert window.is_open
    window._root.focus_force()
    window._root.event_generate("<Escape>")
    window.hold()  # ends, as it is closed
    assert not window.is_open
    window.show(RED, 1)
    window.close()


@pytest.mark.usefixtures("screen")
def test_a_window_that_the_desktop_closes() -> None:
    window = Window("test")
    window.show(RED, 0)
    window._root.tk.eval(str(window._root.protocol("WM_DELETE_WINDOW")))
    window.refresh()
    assert not window.is_open


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="there a window needs no DISPLAY")
def test_no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tkinter")
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(InputError, match=r"no screen for a window .* --output demo\.mp4"):
        Window("test")


def test_no_tk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tkinter", None)
    with pytest.raises(InputError, match=r"a window needs tkinter.* python3-tk"):
        Window("test")
