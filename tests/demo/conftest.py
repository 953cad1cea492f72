"""Tiny videos, and a camera, for the demo."""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from fake_capture import FakeCapture

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


@pytest.fixture
def unplug(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeCapture]:
    """Return a function that puts a camera of so many pictures in the place of any."""

    def replace(pictures: int, opened: bool = True, then: Callable[[], object] = int) -> FakeCapture:
        capture = FakeCapture(pictures, opened, then)
        monkeypatch.setattr(cv2, "VideoCapture", lambda address: capture)
        return capture

    return replace
