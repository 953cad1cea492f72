"""Timing of several things side by side."""

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

_WARM_UP = 3  # rounds that do not count


def in_turns(runs: Sequence[Callable[[int], object]], rounds: int) -> NDArray[np.float64]:
    """Run each once in every round, so that whatever else the machine does meets all alike.

    Each round has an order of its own, the same at every call: a run leaves caches, and with some engines threads that
    wait for more work, to the one after it, which must not always be the same.

    Args:
        runs: N of them; each is given the number of the round.
        rounds: R, after some that do not count.

    Returns:
        (N, R) seconds of each run.
    """
    seconds = np.zeros((len(runs), _WARM_UP + rounds))
    rng = np.random.default_rng(0)
    for turn in range(_WARM_UP + rounds):
        for index in rng.permutation(len(runs)):
            start = time.perf_counter()
            runs[index](turn)
            seconds[index, turn] = time.perf_counter() - start
    return seconds[:, _WARM_UP:]
