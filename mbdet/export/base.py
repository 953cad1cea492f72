"""What an exported file computes and how it is compared with the network, whatever the format of the file."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Generic, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from mbdet.errors import InputError
from mbdet.models import Network

Values = Mapping[str, NDArray[Any]]  # outputs by name


class Compared(Protocol):
    """How close a file comes to the network, in words as a string."""

    @property
    def share(self) -> float:
        """Of what was compared, what agrees."""


Parity = TypeVar("Parity", bound=Compared)
Precision = Literal["fp32", "fp16", "int8"]
# Largest difference of a score between file and network that rounding explains.
SCORE_TOLERANCE = 1e-4


class Form(NamedTuple):
    """How much of what follows the network a file does itself; `mbdet.runtime.finish` does the rest."""

    nms: bool = True
    argmax: bool = True
    probabilities: bool = False  # beside a map of classes, or in its place


class Pair(NamedTuple):
    """What the network and the file give for one image, without the axis of the batch."""

    image: int  # its number among the comparison images, from 0
    expected: Values  # all outputs of the network
    actual: Values  # the outputs that the file has


class Export(nn.Module, ABC, Generic[Parity]):
    """A network with all that follows it in a file, and with how close a file comes to it as its type argument.

    Args:
        network: The network.

    Attributes:
        task: Name of what the file does, in its description.
        preparation: What is done to a picture before the file gets it, likewise.
        notes: What else the description has, ready for JSON.
    """

    task: ClassVar[str]
    network: Network
    preparation: Mapping[str, object]
    notes: Mapping[str, object]

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.notes = {}

    @abstractmethod
    def outputs(self, form: Form) -> dict[str, str]:
        """Return what each output of a file is, in one phrase for its description, in their order."""

    @abstractmethod
    def forward(self, images: Tensor, form: Form) -> dict[str, Tensor]:
        """Compute those outputs.

        Args:
            images: (B, 3, H, W) RGB of the network's input size, uint8 or float in [0, 255].
            form: Which outputs.
        """

    @abstractmethod
    def compare(self, pairs: Iterable[Pair], precision: Precision) -> Parity:
        """Compare a file with the network.

        Args:
            pairs: Of all images; the network's outputs are the finished ones, with probabilities.
            precision: Of the file. Where it computes with fewer bits than the network, single results may differ, and
                most must agree.

        Returns:
            The largest differences found; as text it goes on after "agrees on".

        Raises:
            InputError: At the first difference that the precision does not explain; it names the output and where.
                Likewise if there is nothing to compare in the images.
        """


class DifferenceError(InputError):
    """A file is not what the network is.

    Args:
        output: The first that differs.
        problem: How it differs.
        sources: Those of the file's own outputs that it is made from, where the file itself has no such output.

    Attributes:
        output: As given.
        problem: As given.
    """

    def __init__(self, output: str, problem: str, sources: Sequence[str] = ()) -> None:
        made = f", which is made from {' and '.join(map(repr, sources))}" if sources else ""
        where = f"the exported file differs from the checkpoint in output {output!r}{made}"
        super().__init__(f"{where}: {problem}; the file was not kept")
        self.output, self.problem = output, problem


def compare_probabilities(pair: Pair, precision: Precision, tolerances: Mapping[Precision, float]) -> float:
    """Compare the output `probabilities`, whose axes are the class and, in a map, row and column.

    Args:
        pair: Of one image.
        precision: Of the file.
        tolerances: Largest difference that each precision explains: in single precision, of any probability; in fewer
            bits, of all classes in sum, which is never more than 2, and in a map on average over the pixels.

    Returns:
        The largest difference.

    Raises:
        InputError: If they differ by more than the precision explains.
    """
    expected, actual = pair.expected["probabilities"], pair.actual["probabilities"]
    differences = np.abs(actual - expected)
    if precision != "fp32":
        spread = float(differences.sum(axis=0).mean())
        if not spread <= tolerances[precision]:  # also what is not a number
            raise DifferenceError(
                "probabilities",
                f"those of comparison image {pair.image} differ by {spread:.2f} on average, summed over the classes,"
                f" more than {precision} explains",
            )
        return float(differences.max())
    wrong = ~(differences <= tolerances[precision])  # also what is not a number
    if wrong.any():
        index = tuple(np.argwhere(wrong)[0].tolist())
        place = ", ".join(f"{axis} {number}" for axis, number in zip(("class", "row", "column"), index, strict=False))
        raise DifferenceError(
            "probabilities",
            f"{place} of comparison image {pair.image} is {actual[index]:.4f}, not {expected[index]:.4f}",
        )
    return float(differences.max())
