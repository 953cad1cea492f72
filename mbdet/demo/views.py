"""Where the pictures of a demo go: a window or a video."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mbdet.demo.opencv import opencv
from mbdet.errors import InputError
from mbdet.runtime.files import check_writable, write_atomically

# What OpenCV can write without a codec of the system's.
CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "mp4v"}


class View(ABC):
    """Takes pictures one after the other.

    Attributes:
        verb: What it does with them, as the name of a stage.
        is_open: Whether it takes more.
    """

    verb: ClassVar[str]
    is_open: bool = True

    @abstractmethod
    def show(self, image: NDArray[np.uint8], seconds: float) -> None:
        """Take a picture.

        Args:
            image: (H, W, 3) RGB, of the same even size each time.
            seconds: When it is to be seen, since the first one.
        """

    def wait(self, seconds: float) -> None:  # noqa: B027 -- most need not
        """Wait until it is that many seconds after the first picture, where anybody looks on."""

    def refresh(self) -> None:  # noqa: B027 -- likewise
        """Answer the user, while there is no next picture yet."""

    def hold(self) -> None:  # noqa: B027 -- likewise
        """Keep the last picture until the user has seen it."""


class VideoWriter(View):
    """A video file.

    A picture is repeated or left out where others come slower or faster than its rate, so that it plays in time.

    Args:
        path: The file; its suffix is one of `CODECS`.
        rate: Pictures a second.
    """

    verb = "write"

    def __init__(self, path: Path, rate: float) -> None:
        self._cv2 = opencv()
        self._path, self._rate = path, rate
        self._writer = self._cv2.VideoWriter()
        self.written = 0

    def show(self, image: NDArray[np.uint8], seconds: float) -> None:
        """See `View.show`.

        Raises:
            InputError: If the video cannot be begun.
        """
        if not self._writer.isOpened():
            codec = self._cv2.VideoWriter_fourcc(*CODECS[self._path.suffix.lower()])
            size = (image.shape[1], image.shape[0])
            if not self._writer.open(str(self._path), codec, self._rate, size):
                raise InputError(f"{self._path}: OpenCV cannot write such a video; give another place, or try .avi")
        due = round(seconds * self._rate) + 1 - self.written
        for _ in range(due):
            self._writer.write(image[:, :, ::-1])
        self.written += max(0, due)

    def close(self) -> None:
        """Write the end of the file."""
        self._writer.release()

    def check(self) -> None:
        """Look into the finished file.

        Raises:
            InputError: If it does not hold all of the pictures: OpenCV does not say when a disk is full.
        """
        if self.written:
            capture = self._cv2.VideoCapture(str(self._path))
            found = int(capture.get(self._cv2.CAP_PROP_FRAME_COUNT))
            capture.release()
            if found < self.written:
                raise InputError(f"{self._path}: holds {max(0, found)} of {self.written} pictures; is the disk full?")


@contextmanager
def write_video(path: Path, rate: float) -> Iterator[VideoWriter]:
    """Write a video that takes the place of `path` once it is complete.

    Args:
        path: The file; its folder is made.
        rate: Pictures a second.

    Raises:
        InputError: If it cannot be written.
    """
    if path.suffix.lower() not in CODECS:
        raise InputError(f"{path}: a video is called something{', something'.join(CODECS)}")
    check_writable(path)
    with write_atomically(path) as temporary:
        writer = VideoWriter(temporary, rate)
        try:
            yield writer
        finally:
            writer.close()
        writer.check()


class Window(View):
    """A window on the screen, until it is closed, or Escape or q is pressed.

    OpenCV's own windows are not in its headless package, which albumentations brings; Tk's are in Python.

    Args:
        title: What stands above it.

    Raises:
        InputError: If there is no screen, or this Python has no Tk.
    """

    verb = "show"

    def __init__(self, title: str) -> None:
        cure = "write a video with --output demo.mp4"
        try:
            import tkinter

            from PIL import ImageTk
        except ImportError as error:
            raise InputError(
                f"a window needs {error.name}, which Linux packages as python3-tk and python3-pil.imagetk; or {cure}"
            ) from error
        try:
            self._root = tkinter.Tk()
        except tkinter.TclError as error:
            raise InputError(f"there is no screen for a window ({error}); {cure}") from error
        self._error = tkinter.TclError
        self._photo_class = ImageTk.PhotoImage
        self._root.title(title)
        self._root.resizable(False, False)
        self._root.protocol("WM_DELETE_WINDOW", self.close)
        for key in ("<Escape>", "q"):
            self._root.bind(key, lambda _: self.close())
        self._label = tkinter.Label(self._root, borderwidth=0)
        self._label.pack()
        # Room for the bars of the desktop.
        self._limits = (int(self._root.winfo_screenwidth() * 0.95), int(self._root.winfo_screenheight() * 0.85))
        self._start: float | None = None

    def show(self, image: NDArray[np.uint8], seconds: float) -> None:
        """Show a picture, smaller where the screen is too small; see `View.show`."""
        self._start = time.monotonic() if self._start is None else self._start
        picture = Image.fromarray(image)
        if picture.width > self._limits[0] or picture.height > self._limits[1]:
            picture = ImageOps.contain(picture, self._limits)
        if self.is_open:
            self._photo = self._photo_class(picture, master=self._root)  # Tk itself keeps no hold of it
            self._label.configure(image=self._photo)
            self.refresh()

    def wait(self, seconds: float) -> None:
        """See `View.wait`."""
        while self.is_open and self._start is not None and time.monotonic() < self._start + seconds:
            time.sleep(min(0.01, max(0.0, self._start + seconds - time.monotonic())))
            self.refresh()

    def hold(self) -> None:
        """See `View.hold`."""
        while self.is_open:
            time.sleep(0.02)
            self.refresh()

    def close(self) -> None:
        """Close it."""
        if self.is_open:
            self.is_open = False
            self._root.destroy()

    def refresh(self) -> None:
        """Let Tk work, which may close the window; see `View.refresh`."""
        try:
            self._root.update()
        except self._error:
            self.is_open = False
