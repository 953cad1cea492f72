import itertools
from collections import Counter
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from mbdet.runtime.timing import in_turns


def test_every_run_has_its_turn_and_none_always_follows_the_same() -> None:
    turns: list[tuple[int, str]] = []

    def run(name: str, turn: int) -> None:
        turns.append((turn, name))

    seconds = in_turns([partial(run, name) for name in "abcd"], rounds=20)
    assert seconds.shape == (4, 20)
    rounds = [list(group) for _, group in itertools.groupby(turns, key=lambda pair: pair[0])]
    assert all(sorted(name for _, name in group) == list("abcd") for group in rounds)
    assert [group[0][0] for group in rounds] == list(range(len(rounds)))
    assert len(rounds) > 20  # as some do not count
    for follower in "abcd":
        before = Counter(first for (_, first), (_, second) in itertools.pairwise(turns) if second == follower)
        assert len(before - Counter(follower)) >= 3


def test_seconds_belong_to_the_run_that_took_them(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("time.perf_counter", lambda: clock.now)

    def run(takes: float, turn: int) -> None:
        clock.now += takes

    seconds = in_turns([partial(run, takes) for takes in (4.0, 1.0, 2.0)], rounds=5)
    np.testing.assert_array_equal(seconds, np.repeat([[4.0], [1.0], [2.0]], 5, axis=1))
