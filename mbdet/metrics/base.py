"""What every evaluation promises, whatever is evaluated."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeVar

Found_contra = TypeVar("Found_contra", contravariant=True)


class Metrics(Protocol):
    """Figures of one evaluation, as attributes under the names of `to_json`.

    Attributes:
        headline: Names of the figures that a training logs.
    """

    headline: ClassVar[tuple[str, ...]]

    def to_json(self) -> dict[str, Any]:
        """Return the figures under their names, and `per_class` with the same for every class, undefined ones None."""


class Evaluator(Protocol[Found_contra]):
    """Collects what was found in each image of a split and scores it.

    Attributes:
        collected: What has been collected, by image, plain and picklable. Clear it to evaluate again; several processes
            merge by uniting theirs, so that an image that two of them have seen counts once.
        listed: How many images the ground truth has, whether or not they could be read.
    """

    collected: dict[Any, Any]
    listed: int

    def update(self, image_id: int, found: Found_contra, /) -> None:
        """Take what was found in one image, in place of any taken for it before."""

    def records(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Return all that was collected as lists ready for `json.dump`, by the noun that a file's name should have."""

    def compute(self) -> Metrics:
        """Score what was collected over the images it was collected for."""
