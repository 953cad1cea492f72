import pytest

from mbdet.tasks.schedule import warmup_cosine


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 1 / 3), (5, 2 / 3), (10, 1.0), (60, 0.5), (110, 0.0), (500, 0.0)],
)
def test_rises_then_falls(step: int, expected: float) -> None:
    assert warmup_cosine(step, warmup_steps=10, total_steps=110) == pytest.approx(expected)


def test_without_warmup_starts_at_the_full_rate() -> None:
    assert warmup_cosine(0, warmup_steps=0, total_steps=100) == 1.0
    assert warmup_cosine(0, warmup_steps=0, total_steps=0) == 1.0
