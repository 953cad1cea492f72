import sys

import numpy as np
import pytest

from mbdet.demo.tracking import LIFE, Tracker
from mbdet.errors import InputError
from mbdet.runtime.types import Detections

RATE = 25


@pytest.fixture
def tracker() -> Tracker:
    pytest.importorskip("edgefirst.tracker")
    return Tracker(score=0.5)


def detections(*objects: tuple[float, float, float, int]) -> Detections:
    """Objects of 40x80 pixels: x, y, score, label."""
    boxes = [[x, y, x + 40, y + 80] for x, y, _, _ in objects]
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array([score for _, _, score, _ in objects], np.float32),
        np.array([label for _, _, _, label in objects], np.int64),
    )


def test_objects_keep_their_numbers_as_they_move(tracker: Tracker) -> None:
    rng = np.random.default_rng(0)
    for step in range(40):
        right, left = 10 + 4 * step, 300 - 4 * step  # they pass each other, one above the other
        objects = [(right + rng.normal(), 20 + rng.normal(), 0.9, 0), (left + rng.normal(), 120, 0.8, 0)]
        turn = step % 2  # in either order
        found, numbers = tracker.update(detections(*objects[:: -1 if turn else 1]), step / RATE)
        assert len(found.boxes) == 2
        assert numbers.tolist() == ([2, 1] if turn else [1, 2])


def test_the_weak_carry_on_a_track_but_begin_none(tracker: Tracker) -> None:
    assert tracker.update(detections((0, 0, 0.4, 0)), 0)[1].tolist() == []
    assert tracker.update(detections((0, 0, 0.9, 0), (200, 0, 0.4, 0)), 1 / RATE)[1].tolist() == [1]
    found, numbers = tracker.update(detections((2, 0, 0.3, 0), (200, 0, 0.4, 0)), 2 / RATE)
    assert (found.scores.tolist(), numbers.tolist()) == ([np.float32(0.3)], [1])
    assert tracker.update(detections((2, 0, 0.2, 0)), 3 / RATE)[1].tolist() == []


def test_a_class_has_tracks_of_its_own(tracker: Tracker) -> None:
    for step in range(6):
        # Upon each other; the one that scores more changes.
        scores = (0.9, 0.8) if step % 2 else (0.7, 0.8)
        _, numbers = tracker.update(detections((5, 5, scores[0], 0), (6, 6, scores[1], 3)), step / RATE)
        assert numbers.tolist() == [1, 2]


def test_who_is_out_of_sight_for_a_moment_keeps_the_number(tracker: Tracker) -> None:
    for step in range(5):
        tracker.update(detections((0, 0, 0.9, 0)), step / RATE)
    for step in range(5, 15):
        tracker.update(detections(), step / RATE)
    assert tracker.update(detections((0, 0, 0.9, 0)), 15 / RATE)[1].tolist() == [1]
    for step in range(16, 20 + int(LIFE * RATE)):
        tracker.update(detections(), step / RATE)
    assert tracker.update(detections((0, 0, 0.9, 0)), 3)[1].tolist() == [2]


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "edgefirst.tracker", None)
    with pytest.raises(InputError, match="--track needs a library: pip install edgefirst-tracker"):
        Tracker(0.5)
