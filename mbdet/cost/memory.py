"""How much memory the feature maps need at once, from the order in which a network makes and reads them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Step:
    """One operation.

    Attributes:
        name: Of the operation and where in the network it stands.
        reads: Buffers that it reads; a view is the buffer that it looks into.
        writes: Buffers that it writes: new ones, or with an in-place operation those that it reads.
        elementwise: Whether it could overwrite an input of the size of its output.
    """

    name: str
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    elementwise: bool


class Peak(NamedTuple):
    """The moment of a forward pass at which the most features are held."""

    elements: int
    at: str  # the operation


def peak_memory(steps: Sequence[Step], sizes: Sequence[int], inputs: Sequence[int], outputs: Sequence[int]) -> Peak:
    """Return how many elements the live buffers have at the operation where they are the most.

    A buffer lives from the operation that makes it to the last that reads it, both included, so that an operation's
    inputs and outputs are always held together. Inputs of the network live from the start, outputs to the end. An
    elementwise operation takes over the buffer of an input that nothing reads later, as inference engines do.

    Args:
        steps: The operations in their order.
        sizes: Elements of each buffer.
        inputs: Buffers that hold the network's inputs; they belong to the caller and are never overwritten.
        outputs: Buffers that hold its outputs.
    """
    end = len(steps)
    born = dict.fromkeys(inputs, 0)
    last_use = dict.fromkeys(inputs, 0)
    for index, step in enumerate(steps):
        for buffer in (*step.reads, *step.writes):
            born.setdefault(buffer, index)
            last_use[buffer] = index
    last_use |= {buffer: end for buffer in outputs if buffer in born}

    live = [0] * (end + 2)
    for buffer, start in born.items():
        live[start] += sizes[buffer]
        live[last_use[buffer] + 1] -= sizes[buffer]
    for index, step in enumerate(steps):
        new = [buffer for buffer in step.writes if born[buffer] == index and buffer not in step.reads]
        if not (step.elementwise and new):
            continue
        for buffer in step.reads:
            if buffer not in inputs and last_use[buffer] == index and sizes[buffer] == sizes[new[0]]:
                live[index] -= sizes[buffer]  # else held twice during this operation
                live[index + 1] += sizes[buffer]
                break

    peak, held = Peak(0, ""), 0
    for step, change in zip(steps, live, strict=False):
        held += change
        if held > peak.elements:
            peak = Peak(held, step.name)
    return peak
