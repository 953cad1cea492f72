"""A camera or a stream, of which the newest picture counts."""

import math
import re
import threading
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbdet.demo.opencv import opencv
from mbdet.demo.sources import USUAL_RATE, Frame, Source
from mbdet.errors import InputError

PATIENCE = 5.0  # seconds without a picture after which it is taken for gone
_SLICE = 0.05  # of them at a time, between which a window answers


class Camera(Source):
    """A camera or a stream.

    It is read all the time on a thread of its own, and what comes while the network computes is left out, so that the
    picture shown is never old.

    Args:
        address: Its number, from 0, or the address of a stream.

    Raises:
        InputError: If it cannot be opened.
    """

    live = True

    def __init__(self, address: int | str) -> None:
        # A stream's name is shown and printed, its password is not.
        self.name = f"camera {address}" if isinstance(address, int) else re.sub(r"://[^/?#]*@", "://", address)
        cv2 = opencv()
        self._cv2: Any = cv2
        self._capture = cv2.VideoCapture(address)
        if not self._capture.isOpened():
            raise InputError(
                f"{self.name}: cannot be opened; check that it is connected, that no other program has it and that you"
                " may use it"
            )
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if math.isfinite(rate) and 0 < rate < 1000 else USUAL_RATE
        self._changed = threading.Condition()
        self._newest: tuple[NDArray[np.uint8], float] | None = None
        self._gone = self._closed = False
        self._start: float | None = None
        self._waited = 0.0
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def ready(self) -> bool:
        """See `Source.ready`."""
        with self._changed:
            came = self._changed.wait_for(lambda: self._newest is not None or self._gone, _SLICE)
        self._waited += 0 if came else _SLICE
        return came or self._waited >= PATIENCE

    def read(self) -> Frame | None:
        """Return the newest picture, once there is one that was not returned yet; see `Source.read`."""
        while not self.ready():
            pass
        self._waited = 0.0
        with self._changed:
            newest, self._newest = self._newest, None
        if newest is None:
            if self._start is None:
                raise InputError(f"{self.name}: gives no picture; check the cable, or give another number")
            self.problem = f"{self.name}: gives no more pictures; was it unplugged?"
            return None
        image, moment = newest
        self._start = moment if self._start is None else self._start
        return Frame(self._cv2.cvtColor(image, self._cv2.COLOR_BGR2RGB), moment - self._start)

    def close(self) -> None:
        """See `Source.close`."""
        self._closed = True
        self._thread.join(PATIENCE)
        if not self._thread.is_alive():  # releasing what a thread is reading would end the process
            self._capture.release()

    def _follow(self) -> None:
        """Keep the newest picture until there are no more."""
        try:
            while not self._closed:
                found, image = self._capture.read()
                if not found:
                    break
                with self._changed:
                    self._newest = image, time.monotonic()
                    self._changed.notify()
        except self._cv2.error:
            pass  # the same as no picture
        finally:
            with self._changed:
                self._gone = True
                self._changed.notify()
