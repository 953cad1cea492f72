"""Tiny videos, and a camera, for the demo."""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from mbdet.data.shapes import draw_scene

FRAMES, RATE, HEIGHT, WIDTH = 24, 12.0, 90, 160


def encode(path: Path, codec: str, frames: Sequence[np.ndarray]) -> Path:
    """Write RGB frames as a video."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), RATE, frames[0].shape[1::-1])
    assert writer.isOpened()
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[:, :, ::-1]))
    writer.release()
    return path


@pytest.fixture(scope="session")
def frames() -> list[np.ndarray]:
    """Return what a camera that moves over a scene sees."""
    scene = draw_scene(1, 1, 0, HEIGHT + 40, WIDTH + 60).image
    return [scene[step : step + HEIGHT, 2 * step : 2 * step + WIDTH] for step in range(FRAMES)]


@pytest.fixture(scope="session")
def video(frames: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return them as an .mp4."""
    return encode(tmp_path_factory.mktemp("videos") / "moving.mp4", "mp4v", frames)


@pytest.fixture(scope="session")
def cut_video(frames: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a video that ends in the middle of a picture."""
    whole = encode(tmp_path_factory.mktemp("videos") / "whole.avi", "MJPG", frames)
    content = whole.read_bytes()
    # Each JPEG starts with FF D8 FF; 40 bytes of the 15th are left.
    starts = [index for index in range(len(content)) if content.startswith(b"\xff\xd8\xff", index)]
    assert len(starts) == FRAMES
    cut = whole.with_name("cut.avi")
    cut.write_bytes(content[: starts[14] + 40])
    return cut


class FakeCapture:
    """A camera of a few pictures, after which it is gone."""

    def __init__(self, pictures: int, opened: bool = True) -> None:
        self.left, self.opened, self.released = pictures, opened, False

    def isOpened(self) -> bool:  # noqa: N802 -- OpenCV's name
        return self.opened

    def get(self, _: int) -> float:
        return RATE

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.left -= 1
        return (False, None) if self.left < 0 else (True, np.full((HEIGHT, WIDTH, 3), (255, 0, 0), np.uint8))

    def release(self) -> None:
        self.released = True


@pytest.fixture
def unplug(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeCapture]:
    """Return a function that puts a camera of so many pictures in the place of any."""

    def replace(pictures: int, opened: bool = True) -> FakeCapture:
        capture = FakeCapture(pictures, opened)
        monkeypatch.setattr(cv2, "VideoCapture", lambda address: capture)
        return capture

    return replace
