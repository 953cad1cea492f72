"""What the file of a classifier computes: the probability of every class."""

from collections.abc import Iterable, Mapping
from typing import ClassVar, NamedTuple

from torch import Tensor

from mbdet.export.base import SCORE_TOLERANCE, Export, Pair, compare_probabilities
from mbdet.models import Classifier


class ClassificationParity(NamedTuple):
    """How far a file's probabilities are from the network's."""

    probability: float
    images: int  # how many were compared

    def __str__(self) -> str:
        return f"the classes of all (probabilities to {self.probability:.2g})"


class ClassificationExport(Export[ClassificationParity]):
    """Network and softmax.

    Args:
        network: The classifier.
        eval_crop: Side of the central part of a picture that the network sees, in sides of the picture.
    """

    task = "classification"
    outputs: ClassVar[Mapping[str, str]] = {"probabilities": "of each class"}

    def __init__(self, network: Classifier, eval_crop: float) -> None:
        super().__init__(network)
        self.preparation = {"central_crop": eval_crop, "resize": "stretch"}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """See `Export.forward`: probabilities (B, K) float32."""
        return {"probabilities": self.network(images).float().softmax(1)}

    def compare(self, pairs: Iterable[Pair]) -> ClassificationParity:
        """See `Export.compare`."""
        differences = [compare_probabilities(pair, SCORE_TOLERANCE) for pair in pairs]
        return ClassificationParity(max(differences), len(differences))
