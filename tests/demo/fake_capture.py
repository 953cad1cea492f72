"""A camera of tests."""

from collections.abc import Callable

import cv2
import numpy as np


class FakeCapture:
    """A camera of a few pictures, after which it is gone, or `then` happens first."""

    def __init__(
        self,
        pictures: int,
        opened: bool = True,
        then: Callable[[], object] = int,
        position: Callable[[], float] = float,
    ) -> None:
        self.left, self.opened, self.then, self.position, self.released = pictures, opened, then, position, False

    def isOpened(self) -> bool:  # noqa: N802 -- OpenCV's name
        return self.opened

    def get(self, what: int) -> float:
        return self.position() if what == cv2.CAP_PROP_POS_MSEC else 12.0

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.left -= 1
        if self.left >= 0:
            return True, np.full((90, 160, 3), (255, 0, 0), np.uint8)
        self.then()
        return False, None

    def release(self) -> None:
        self.released = True
