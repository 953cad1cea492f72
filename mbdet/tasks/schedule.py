"""Learning rate over time."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from mbdet.errors import InputError

WARMUP_START = 1 / 3  # of the full rate: the TF SSD configs warm up from 0.1333 to 0.4


@dataclass(frozen=True)
class TrainingLength:
    """How long a training is, in optimiser steps."""

    warmup_steps: int
    epoch_steps: int
    total_steps: float  # infinite if the training has no end


class Schedule(ABC):
    """How the learning rate goes on after its linear rise over the warm-up."""

    @abstractmethod
    def factor(self, step: int, length: TrainingLength) -> float:
        """Return the part of the full learning rate to use.

        Args:
            step: Optimiser steps made so far.
            length: Of the training.
        """


@dataclass(frozen=True)
class CosineDecay(Schedule):
    """Half a cosine from the full rate down to 0 at the end of the training."""

    def factor(self, step: int, length: TrainingLength) -> float:
        """See `Schedule.factor`.

        Raises:
            InputError: If the training has no end.
        """
        return warmup_cosine(step, length.warmup_steps, _end(length))


@dataclass(frozen=True)
class PolynomialDecay(Schedule):
    """A power of the part of the training that is left: DeepLab's "poly" (arXiv 1706.05587, section 4.1).

    Args:
        power: 0.9 in the papers; 1 falls in a straight line.

    Raises:
        InputError: If the power is not above 0.
    """

    power: float = 0.9

    def __post_init__(self) -> None:
        if not self.power > 0:
            raise InputError(f"PolynomialDecay: power is {self.power}; give a number above 0")

    def factor(self, step: int, length: TrainingLength) -> float:
        """See `Schedule.factor`.

        Raises:
            InputError: If the training has no end.
        """
        end = _end(length)
        if step < length.warmup_steps:
            return warmup(step, length.warmup_steps)
        left = (end - step) / max(1, end - length.warmup_steps)
        return float(max(0.0, left) ** self.power)


@dataclass(frozen=True)
class ExponentialDecay(Schedule):
    """The full rate, multiplied again and again by a constant: the papers' schedule on ImageNet.

    Args:
        rate: The constant, above 0 and at most 1: 0.94 in slim's V1, 0.98 in the V2 paper.
        epochs: How often: 2.5 in slim's V1, 1 in the V2 paper. The warm-up counts.
        staircase: In jumps, as the papers do, or smoothly.

    Raises:
        InputError: If a number is out of range.
    """

    rate: float = 0.98
    epochs: float = 1.0
    staircase: bool = True

    def __post_init__(self) -> None:
        if not (0 < self.rate <= 1 and self.epochs > 0):
            raise InputError(
                f"ExponentialDecay: rate is {self.rate}, epochs {self.epochs}; give a rate above 0 and at most 1, and"
                " epochs above 0"
            )

    def factor(self, step: int, length: TrainingLength) -> float:
        """See `Schedule.factor`."""
        if step < length.warmup_steps:
            return warmup(step, length.warmup_steps)
        times = step / (length.epoch_steps * self.epochs)
        # A step is a whole number, so only rounding in the division can keep it just below a jump.
        return self.rate ** (math.floor(times + 1e-9) if self.staircase else times)


def warmup_cosine(step: int, warmup_steps: int, total_steps: int) -> float:
    """Return the part of the full learning rate to use at `step`: a linear rise, then half a cosine down to 0.

    Args:
        step: Optimiser steps made so far.
        warmup_steps: Length of the rise.
        total_steps: Length of the whole training.
    """
    if step < warmup_steps:
        return warmup(step, warmup_steps)
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def warmup(step: int, warmup_steps: int) -> float:
    """Return the part of the full learning rate to use at a step of the linear rise."""
    return WARMUP_START + (1 - WARMUP_START) * step / warmup_steps


def _end(length: TrainingLength) -> int:
    """Return the number of steps of a training.

    Raises:
        InputError: If it has no end.
    """
    if not math.isfinite(length.total_steps):
        raise InputError(
            "the learning rate falls until the end of the training; give --trainer.max_epochs or max_steps"
        )
    return int(length.total_steps)
