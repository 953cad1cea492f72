"""How long each stage of a demo takes."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

SHOWN = 30  # newest pictures that what is shown is taken from


@dataclass(frozen=True)
class Report:
    """What a demo took."""

    pictures: int
    seconds: float  # from the first picture to the last
    medians: dict[str, float]  # milliseconds of each stage

    @property
    def rate(self) -> float:
        """Pictures a second; 0 where there were too few to tell."""
        return (self.pictures - 1) / self.seconds if self.pictures > 1 and self.seconds > 0 else 0.0

    def words(self) -> list[str]:
        """Return the rate and the stages as words that belong together."""
        return [f"{self.rate:.1f} fps", *(f"{name} {value:.1f} ms" for name, value in self.medians.items())]


class Stages:
    """A clock for stages that follow each other for each picture.

    Args:
        names: Of the stages, in their order.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._seconds: dict[str, list[float]] = {name: [] for name in names}
        self._ends: list[float] = []

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        """Time a stage of the picture at hand."""
        start = time.perf_counter()
        yield
        self._seconds[name].append(time.perf_counter() - start)

    def end(self) -> None:
        """End a picture."""
        self._ends.append(time.perf_counter())

    def report(self, newest: int | None = None) -> Report:
        """Return what it took.

        Args:
            newest: Of how many of the newest pictures; of all by default.
        """
        start = 0 if newest is None else -newest
        ends = self._ends[start:]
        medians = {
            name: 1000 * float(np.median(seconds[start:])) if seconds else 0.0
            for name, seconds in self._seconds.items()
        }
        return Report(len(ends), ends[-1] - ends[0] if ends else 0.0, medians)
