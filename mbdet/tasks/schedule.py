"""Learning rate over time."""

import math

WARMUP_START = 1 / 3  # of the full rate: the TF SSD configs warm up from 0.1333 to 0.4


def warmup_cosine(step: int, warmup_steps: int, total_steps: int) -> float:
    """Return the part of the full learning rate to use at `step`: a linear rise, then half a cosine down to 0.

    Args:
        step: Optimiser steps made so far.
        warmup_steps: Length of the rise.
        total_steps: Length of the whole training.
    """
    if step < warmup_steps:
        return WARMUP_START + (1 - WARMUP_START) * step / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
