"""Which objects of a picture are those of the picture before."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbdet.errors import InputError
from mbdet.runtime.types import Detections

WEAK = 0.5  # share of the score that begins a track, which an object must have to carry one on
LIFE = 1.0  # seconds for which an object may be out of sight


class Tracker:
    """ByteTrack (Zhang et al. 2022), for each class by itself.

    Objects that score well begin a track; those that score less only carry on one.

    Args:
        score: What an object must score to begin a track.

    Raises:
        InputError: If the library is not installed.
    """

    def __init__(self, score: float) -> None:
        try:
            from edgefirst.tracker import ByteTrack
        except ImportError as error:
            raise InputError("--track needs a library: pip install edgefirst-tracker") from error
        self._make: Any = ByteTrack
        self._score = score
        self._trackers: dict[int, Any] = {}  # by label; the library's own would give a dog the track of a cat
        self._numbers: dict[str, int] = {}  # of the tracks that live, by the library's names
        self._count = 0

    def update(self, found: Detections, seconds: float) -> tuple[Detections, NDArray[np.int64]]:
        """Take the objects of the next picture.

        Args:
            found: All of them, however little they score.
            seconds: When the picture was taken; rises from picture to picture.

        Returns:
            Those that score well or carry on a track, N in the same order, and their (N,) numbers, from 1, or -1 of one
            that has none yet.
        """
        numbers = np.full(len(found.labels), -1, dtype=np.int64)
        living: dict[str, int] = {}
        for label in sorted({*self._trackers, *found.labels.tolist()}):
            tracker = self._trackers.setdefault(label, self._make(high_conf=self._score, lifespan_ns=round(LIFE * 1e9)))
            (rows,) = np.nonzero((found.labels == label) & (found.scores >= WEAK * self._score))
            tracks = tracker.update(
                np.ascontiguousarray(found.boxes[rows], dtype=np.float32),
                np.ascontiguousarray(found.scores[rows], dtype=np.float32),
                np.full(len(rows), label, dtype=np.uintp),
                round(seconds * 1e9),
            )
            for row, track in zip(rows, tracks, strict=True):
                if track is not None:
                    numbers[row] = self._number(track.uuid)
            alive = [track.info.uuid for track in tracker.get_active_tracks()]
            living |= {name: self._numbers[name] for name in alive if name in self._numbers}
        self._numbers = living
        keep = (numbers >= 0) | (found.scores >= self._score)
        return found.where(keep), numbers[keep]

    def _number(self, name: str) -> int:
        if name not in self._numbers:
            self._count += 1
            self._numbers[name] = self._count
        return self._numbers[name]
