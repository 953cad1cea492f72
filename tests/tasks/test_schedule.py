import math

import pytest

from mbdet.errors import InputError
from mbdet.tasks.schedule import CosineDecay, ExponentialDecay, PolynomialDecay, TrainingLength, warmup_cosine


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 1 / 3), (5, 2 / 3), (10, 1.0), (60, 0.5), (110, 0.0), (500, 0.0)],
)
def test_rises_then_falls(step: int, expected: float) -> None:
    assert warmup_cosine(step, warmup_steps=10, total_steps=110) == pytest.approx(expected)
    assert CosineDecay().factor(step, TrainingLength(10, 7, 110)) == pytest.approx(expected)


def test_without_warmup_starts_at_the_full_rate() -> None:
    assert warmup_cosine(0, warmup_steps=0, total_steps=100) == 1.0
    assert warmup_cosine(0, warmup_steps=0, total_steps=0) == 1.0


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 1 / 3), (2, 2 / 3), (4, 1.0), (24, 1.0), (25, 0.94), (49, 0.94), (50, 0.94**2), (250, 0.94**10)],
)
def test_staircase_of_slims_v1(step: int, expected: float) -> None:
    length = TrainingLength(warmup_steps=4, epoch_steps=10, total_steps=math.inf)
    assert ExponentialDecay(0.94, 2.5).factor(step, length) == pytest.approx(expected)


def test_every_jump_falls_on_its_step() -> None:
    length = TrainingLength(0, 3, 10_000)
    for epochs in (0.1, 0.7, 2.4, 1 / 3):
        schedule = ExponentialDecay(0.5, epochs)
        jumps = [step for step in range(1, 200) if schedule.factor(step, length) < schedule.factor(step - 1, length)]
        assert jumps == sorted({math.ceil(round(k * 3 * epochs, 6)) for k in range(1, 700)} & set(range(1, 200)))


def test_smooth_fall() -> None:
    smooth = ExponentialDecay(0.5, 2.0, staircase=False)
    assert smooth.factor(10, TrainingLength(0, 10, 100)) == pytest.approx(0.5**0.5)


def test_a_cosine_needs_an_end() -> None:
    with pytest.raises(InputError, match=r"give --trainer\.max_epochs or max_steps"):
        CosineDecay().factor(0, TrainingLength(0, 10, math.inf))


@pytest.mark.parametrize("options", [{"rate": 0.0}, {"rate": 1.1}, {"epochs": 0.0}])
def test_numbers_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match="give a rate above 0 and at most 1"):
        ExponentialDecay(**options)


@pytest.mark.parametrize(("step", "expected"), [(0, 1 / 3), (5, 2 / 3), (10, 1), (60, 0.5**0.9), (110, 0), (120, 0)])
def test_polynomial(step: int, expected: float) -> None:
    assert PolynomialDecay().factor(step, TrainingLength(10, 7, 110)) == pytest.approx(expected)


def test_a_polynomial_needs_an_end_and_a_power() -> None:
    with pytest.raises(InputError, match=r"give --trainer\.max_epochs or max_steps"):
        PolynomialDecay().factor(0, TrainingLength(0, 10, math.inf))
    with pytest.raises(InputError, match="power is 0"):
        PolynomialDecay(0)
