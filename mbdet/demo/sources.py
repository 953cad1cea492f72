"""Where the pictures of a demo come from: a folder, a video or a camera."""

import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mbdet.demo.opencv import opencv
from mbdet.errors import InputError
from mbdet.runtime.image import image_files, read_image

_GAP = 60.0  # seconds; what stands still for longer has damaged times
USUAL_RATE = 30.0  # of cameras, and of videos that do not say theirs


class Frame(NamedTuple):
    """A picture and when it is to be seen."""

    image: NDArray[np.uint8]  # (H, W, 3) RGB
    seconds: float  # since the first one


class Source(ABC):
    """Pictures one after the other.

    Attributes:
        name: What the user calls it.
        rate: Pictures a second.
        count: How many there are, as far as that is known.
        live: Whether they are seen as they are taken, so that none is to wait for its time.
        problem: Once it has ended, why it did before its time; else None.
    """

    name: str
    rate: float
    count: int | None = None
    live: bool = False
    problem: str | None = None

    def ready(self) -> bool:
        """Wait for the next picture, but not for long, and return whether `read` has no more to wait for."""
        return True

    @abstractmethod
    def read(self) -> Frame | None:
        """Return the next picture, or None after the last one.

        Raises:
            InputError: If there is not even a first one.
        """

    @abstractmethod
    def close(self) -> None:
        """Give up what it holds."""


class PictureFiles(Source):
    """Pictures in files.

    Args:
        path: A picture, or a folder of them; they come in the order of their names.
        rate: Pictures a second.

    Raises:
        InputError: If there is none.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self.name, self.rate = str(path), rate
        self._files = image_files(path)
        self._position = self._shown = 0
        self.count = len(self._files)

    def read(self) -> Frame | None:
        """Return the next picture that can be read; see `Source.read`."""
        while self._position < len(self._files):
            path = self._files[self._position]
            self._position += 1
            try:
                image = read_image(path)
            except InputError as error:
                if self._position == len(self._files) and not self._shown:
                    raise
                self.problem = f"left out: {error}"
                continue
            self._shown += 1
            return Frame(image, (self._shown - 1) / self.rate)
        return None

    def close(self) -> None:
        """See `Source.close`."""


class VideoFile(Source):
    """A video in a file, each of its pictures.

    Args:
        path: The file.

    Raises:
        InputError: If it is none that OpenCV can open.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        cv2 = opencv()
        self._cv2: Any = cv2
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise InputError(
                f"{path}: neither a picture nor a video that can be opened; an .mp4 that was cut short has lost its"
                " index, copy or record it again"
            )
        rate, count = self._capture.get(cv2.CAP_PROP_FPS), self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.rate = rate if math.isfinite(rate) and 0 < rate < 1000 else USUAL_RATE
        self.count = int(count) if count > 0 else None
        self._position = 0
        self._stamp = self._seconds = 0.0

    def read(self) -> Frame | None:
        """Return the next picture; see `Source.read`."""
        try:
            found, image = self._capture.read()
        except self._cv2.error:
            found = False
        if not found:
            if not self._position:
                raise InputError(f"{self.name}: no picture of this video can be read; copy or record it again")
            # Containers count roughly; a handful less is no damage.
            if self.count is not None and self._position < self.count - max(1, self.count // 100):
                self.problem = (
                    f"{self.name}: ends after {self._position} of {self.count} pictures; the file is cut short"
                )
            return None
        # The times differ from those of the rate where a phone or a screen was recorded.
        stamp = self._capture.get(self._cv2.CAP_PROP_POS_MSEC) / 1000
        if self._position:
            step = stamp - self._stamp
            self._seconds += step if 0 < step <= _GAP else 1 / self.rate
        self._stamp = stamp
        self._position += 1
        return Frame(self._cv2.cvtColor(image, self._cv2.COLOR_BGR2RGB), self._seconds)

    def close(self) -> None:
        """See `Source.close`."""
        self._capture.release()
