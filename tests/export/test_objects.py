"""What counts as agreement in fewer bits."""

from collections.abc import Sequence

import numpy as np
import pytest

from mbdet.errors import InputError
from mbdet.export.base import Pair
from mbdet.export.objects import compare_objects

Object = tuple[Sequence[float], float, int]  # box, score, label
CAT: Object = ((10, 10, 50, 50), 0.9, 0)
DOG: Object = ((60, 10, 90, 40), 0.6, 1)
FAINT: Object = ((0, 0, 9, 9), 0.2, 1)


def found(*objects: Object) -> dict[str, np.ndarray]:
    padding: Object = ((0, 0, 0, 0), 0.0, -1)
    rows = [*objects, padding, padding]
    return {
        "boxes": np.array([row[0] for row in rows], np.float32),
        "scores": np.array([row[1] for row in rows], np.float32),
        "labels": np.array([row[2] for row in rows]),
        "counts": np.array(len(objects)),
    }


def moved(one: Object, pixels: float, score: float) -> Object:
    return [side + pixels for side in one[0]], one[1] + score, one[2]


def test_what_moves_a_little_agrees_and_faint_objects_do_not_count() -> None:
    pair = Pair(0, found(CAT, DOG, FAINT), found(moved(CAT, 4, -0.1), moved(DOG, 3, 0.1)))
    agreement = compare_objects([pair], 0.01, "int8")
    assert agreement[:2] == (4, 4)
    # Both boxes lie a tenth of their sides from their counterparts: 0.81 shared of 1.19.
    assert agreement[2:] == pytest.approx((0.81 / 1.19, 0.1), abs=1e-4)
    assert str(agreement).startswith("100.0% of 4 detections that score 0.3 or more (mean IoU 0.681")


@pytest.mark.parametrize(
    ("other", "output", "message"),
    [
        ([CAT], "counts", "class 1 with score 0.600 of the checkpoint in comparison image 3 has no"),
        (
            [CAT, DOG, ((20, 60, 40, 80), 0.8, 0)],
            "counts",
            "class 0 with score 0.800 of the file in comparison image 3 has no",
        ),
        ([CAT, DOG, moved(DOG, 1, 0.0)], "counts", "class 1 with score 0.600 of the file"),  # found twice
        ([CAT, (DOG[0], 0.6, 0)], "labels", "class 1 with score 0.600 of the checkpoint"),
        ([CAT, moved(DOG, 25, 0)], "boxes", "class 1 with score 0.600 of the checkpoint"),
        ([CAT, moved(DOG, 0, -0.1)], "scores", "class 1 with score 0.600 of the checkpoint"),
    ],
)
def test_what_half_precision_does_not_explain(other: list[Object], output: str, message: str) -> None:
    with pytest.raises(InputError, match=f"output '{output}': a detection of {message}.*more than fp16 explains"):
        compare_objects([Pair(3, found(CAT, DOG), found(*other))], 0.01, "fp16")


def test_neighbours_of_a_class_are_told_apart_by_their_boxes() -> None:
    """Each of two cats that overlap has the file's of its own place, whatever the order of the scores."""
    other = moved(CAT, 8, -0.02)
    agreement = compare_objects(
        [Pair(0, found(CAT, other), found(moved(other, 1, 0.03), moved(CAT, 1, -0.03)))], 0.01, "fp16"
    )
    assert agreement.same == agreement.detections == 4
    assert agreement.iou == pytest.approx(39**2 / (2 * 40**2 - 39**2))


def test_some_may_be_lost_to_eight_bits() -> None:
    objects = [((x, 0, x + 9, 9), 0.9, 0) for x in range(0, 100, 10)]
    agreement = compare_objects([Pair(0, found(*objects), found(*objects[2:]))], 0.01, "int8")
    assert agreement[:2] == (16, 18)
    with pytest.raises(InputError, match=r", and 5 of 15 have none, more than int8 explains;"):
        compare_objects([Pair(0, found(*objects), found(*objects[5:]))], 0.01, "int8")


def test_faint_objects_alone_prove_nothing() -> None:
    with pytest.raises(InputError, match=r"finds nothing that scores 0\.3 or more in the comparison images"):
        compare_objects([Pair(0, found(FAINT), found(FAINT))], 0.01, "int8")
