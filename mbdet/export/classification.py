"""What the file of a classifier computes: the probability of every class."""

from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor

from mbdet.export.base import SCORE_TOLERANCE, Export, Form, Pair, Precision, compare_probabilities
from mbdet.models import Classifier

# See `compare_probabilities`.
TOLERANCES: dict[Precision, float] = {"fp32": SCORE_TOLERANCE, "fp16": 0.05, "int8": 0.5}


class ClassificationParity(NamedTuple):
    """How far a file's probabilities are from the network's."""

    probability: float
    images: int  # how many were compared
    same: int  # of them, those whose likeliest class is the network's

    @property
    def share(self) -> float:
        """Of the images, those that agree."""
        return self.same / self.images

    def __str__(self) -> str:
        classes = "the classes of all" if self.same == self.images else f"the class of {self.same} of {self.images}"
        return f"{classes} (probabilities to {self.probability:.2g})"


class ClassificationExport(Export[ClassificationParity]):
    """Network and softmax.

    Args:
        network: The classifier.
        eval_crop: Side of the central part of a picture that the network sees, in sides of the picture.
    """

    task = "classification"

    def __init__(self, network: Classifier, eval_crop: float) -> None:
        super().__init__(network)
        self.preparation = {"central_crop": eval_crop, "resize": "stretch"}

    def outputs(self, form: Form) -> dict[str, str]:
        """See `Export.outputs`."""
        return {"probabilities": "of each class"}

    def forward(self, images: Tensor, form: Form) -> dict[str, Tensor]:
        """See `Export.forward`: probabilities (B, K) float32, whatever the form."""
        return {"probabilities": self.network(images).float().softmax(1)}

    def compare(self, pairs: Iterable[Pair], precision: Precision) -> ClassificationParity:
        """See `Export.compare`."""
        largest, same, count = 0.0, 0, 0
        for pair in pairs:
            largest = max(largest, compare_probabilities(pair, precision, TOLERANCES))
            expected, actual = pair.expected["probabilities"], pair.actual["probabilities"]
            same, count = same + int(expected.argmax() == actual.argmax()), count + 1
        return ClassificationParity(largest, count, same)
