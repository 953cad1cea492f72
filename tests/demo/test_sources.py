import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from fake_capture import FakeCapture
from PIL import Image

from mbdet.demo import camera as camera_module
from mbdet.demo.camera import Camera
from mbdet.demo.find import find_source
from mbdet.demo.sources import Frame, PictureFiles, Source, VideoFile
from mbdet.errors import InputError


def read_all(source: Source) -> list[Frame]:
    return list(iter(source.read, None))


def test_a_video_gives_each_picture_in_time_and_in_rgb(video: Path, frames: list[np.ndarray]) -> None:
    source = VideoFile(video)
    assert (source.rate, source.count) == (12, len(frames))
    read = read_all(source)
    source.close()
    assert source.problem is None
    np.testing.assert_allclose([frame.seconds for frame in read], np.arange(len(frames)) / 12)
    for expected, (image, _) in zip(frames, read, strict=True):
        assert np.abs(image.astype(float) - expected).mean() < 12  # swapped colours differ by far more
        assert np.abs(image[:, :, ::-1].astype(float) - expected).mean() > 20


def test_a_video_of_variable_rate_plays_in_time(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = VideoFile(video)
    stamps = iter([40.0, 140.0, 1140.0, 0.0, 0.0, 50.0, 9e9, 9e9 + 100])  # ms; they fall, stand still and leap
    monkeypatch.setattr(source, "_capture", FakeCapture(8, position=lambda: next(stamps)))
    steps = np.diff([frame.seconds for frame in read_all(source)])
    np.testing.assert_allclose(steps, [0.1, 1, 1 / 12, 1 / 12, 0.05, 1 / 12, 0.1], atol=1e-5)


def test_a_video_that_ends_within_a_picture_gives_those_before(cut_video: Path, frames: list[np.ndarray]) -> None:
    source = VideoFile(cut_video)
    read = read_all(source)
    assert 13 <= len(read) <= 15
    assert np.abs(read[12].image.astype(float) - frames[12]).mean() < 12
    assert source.problem == f"{cut_video}: ends after {len(read)} of 24 pictures; the file is cut short"


def test_an_mp4_without_its_index_cannot_be_opened(video: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    with pytest.raises(InputError, match=r"cut\.mp4: neither a picture nor a video .* cut short has lost its index"):
        find_source(str(cut), 1)


def test_a_video_without_a_picture(cut_video: Path, tmp_path: Path) -> None:
    content = cut_video.read_bytes()
    empty = tmp_path / "empty.avi"
    empty.write_bytes(content[: content.index(b"\xff\xd8\xff") + 20])
    with pytest.raises(InputError, match=r"empty\.avi: no picture of this video can be read"):
        VideoFile(empty).read()


def test_a_folder_gives_its_pictures_by_name_and_passes_over_broken_ones(tmp_path: Path) -> None:
    for name, colour in (("b.png", "blue"), ("a.png", "red")):
        Image.new("RGB", (6, 4), colour).save(tmp_path / name)
    (tmp_path / "aa.jpg").write_bytes(b"no picture")
    source = find_source(str(tmp_path), rate=4)
    assert isinstance(source, PictureFiles)
    read = read_all(source)
    assert [(frame.image[0, 0].tolist(), frame.seconds) for frame in read] == [([255, 0, 0], 0), ([0, 0, 255], 0.25)]
    assert source.problem is not None
    assert "aa.jpg" in source.problem


def test_a_folder_of_broken_pictures(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"no picture")
    with pytest.raises(InputError, match="not an image"):
        read_all(PictureFiles(tmp_path, 1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("none.mp4", "none.mp4: there is no such video, picture or folder"),
        ("none.jpg", "none.jpg: there is no such video, picture or folder"),
        ("99", "camera 99: cannot be opened; check that it is connected"),
        ("http://127.0.0.1:9/x", "http://127.0.0.1:9/x: cannot be opened"),
        (__file__, "test_sources.py: neither a picture nor a video"),
    ],
)
def test_sources_that_are_none(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_source(text, 1)


def test_a_camera_gives_its_newest_picture_until_it_is_gone(unplug: Callable[..., FakeCapture]) -> None:
    capture = unplug(pictures=5)
    camera = Camera(0)
    camera._thread.join()
    frame = camera.read()  # of the five, those that nobody took in time are gone
    assert frame is not None
    assert frame.image[0, 0].tolist() == [0, 0, 255]  # OpenCV has blue first
    assert frame.seconds == 0
    assert camera.read() is None
    assert camera.problem == "camera 0: gives no more pictures; was it unplugged?"
    camera.close()
    assert capture.released


@pytest.mark.parametrize(("opened", "message"), [(True, "camera 0: gives no picture"), (False, "cannot be opened")])
def test_a_camera_that_gives_nothing(opened: bool, message: str, unplug: Callable[..., object]) -> None:
    unplug(0, opened)
    with pytest.raises(InputError, match=message):
        find_source("0", 1).read()


@pytest.fixture
def stall(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Return what a camera that gives nothing waits for, and make patience short."""
    monkeypatch.setattr(camera_module, "PATIENCE", 0.1)
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.parametrize("pictures", [0, 1])
def test_a_camera_that_stalls(pictures: int, unplug: Callable[..., FakeCapture], stall: threading.Event) -> None:
    capture = unplug(pictures, then=stall.wait)
    camera = Camera(0)
    if pictures:
        assert camera.read() is not None
        assert not camera.ready()  # meanwhile a window answers
        assert camera.read() is None
        assert camera.problem == "camera 0: gives no more pictures; was it unplugged?"
    else:
        with pytest.raises(InputError, match="camera 0: gives no picture; check the cable"):
            camera.read()
    camera.close()
    assert camera._thread.is_alive()
    assert not capture.released  # a thread is reading it
    stall.set()
    camera._thread.join()
    camera.close()
    assert capture.released


@pytest.mark.parametrize(
    "error",
    [
        cv2.error("no more"),
        pytest.param(
            MemoryError(), marks=pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
        ),
    ],
)
def test_an_error_while_a_camera_is_read_ends_it(
    error: Exception, unplug: Callable[..., FakeCapture], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(camera_module, "PATIENCE", float("inf"))  # it must not be waited for

    def fail() -> None:
        raise error

    unplug(1, then=fail)
    camera = Camera(0)
    camera._thread.join()
    assert camera.read() is not None
    assert camera.read() is None
    assert camera.problem is not None


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("rtsp://me:secret@host:554/a", "rtsp://host:554/a"),
        ("rtsp://me:sec@ret@host/a@b", "rtsp://host/a@b"),
        ("http://host/a?x=b@c", "http://host/a?x=b@c"),
    ],
)
def test_a_stream_is_named_without_its_password(address: str, name: str, unplug: Callable[..., FakeCapture]) -> None:
    unplug(1)
    assert Camera(address).name == name
    unplug(1, opened=False)
    with pytest.raises(InputError) as caught:
        Camera(address)
    assert str(caught.value).startswith(f"{name}: cannot be opened")


def test_opencv_that_is_not_installed(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    with pytest.raises(InputError, match="pip install opencv-python-headless"):
        find_source(str(video), 1)
