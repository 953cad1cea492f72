"""Overlays: which pixels are painted in which colour, and what the legend says."""

import numpy as np
from numpy.typing import NDArray

from mbdet.runtime.draw_maps import OPACITY, draw_map
from mbdet.runtime.maps import class_palette

NAMES = ("background", "cat", "dog", "gnu")
SIZE = (60, 200)


def grey() -> NDArray[np.uint8]:
    return np.full((*SIZE, 3), 100, np.uint8)


def halves(left: int, right: int) -> NDArray[np.uint8]:
    classes = np.full(SIZE, left, np.uint8)
    classes[:, SIZE[1] // 2 :] = right
    return classes


def mixed(label: int) -> NDArray[np.float64]:
    return (1 - OPACITY) * 100 + OPACITY * class_palette(NAMES)[label]


def has_colour(legend: NDArray[np.uint8], label: int) -> bool:
    return bool((legend == class_palette(NAMES)[label]).all(axis=2).any())


def test_classes_are_painted_and_background_is_not() -> None:
    image = grey()
    drawn = draw_map(image, halves(0, 2), NAMES)
    assert (image == 100).all()
    assert (drawn[: SIZE[0], :99] == 100).all()
    np.testing.assert_allclose(drawn[30, 150], mixed(2), atol=1)
    assert (drawn[: SIZE[0], 99] == 40).all()  # the outline


def test_the_legend_names_what_is_there_by_falling_area() -> None:
    classes = halves(1, 3)
    classes[:, :120] = 1
    legend = draw_map(grey(), classes, NAMES)[SIZE[0] :]
    assert legend.shape[1] == SIZE[1]
    assert [has_colour(legend, label) for label in range(1, 4)] == [True, False, True]
    first, second = (np.argwhere((legend == class_palette(NAMES)[label]).all(axis=2))[0] for label in (1, 3))
    assert tuple(first) < tuple(second)
    assert (legend == 0).all(axis=2).any()  # the text


def test_nothing_to_name_leaves_no_legend() -> None:
    assert draw_map(grey(), halves(0, 0), NAMES).shape == (*SIZE, 3)
    # With another first class, 0 is a class like any other.
    assert draw_map(grey(), halves(0, 0), ("sky", *NAMES[1:])).shape[0] > SIZE[0]


def test_pixels_that_do_not_count_are_hatched() -> None:
    drawn = draw_map(grey(), halves(0, 255), NAMES)[: SIZE[0], 101:]
    white = (drawn == 255).all(axis=2)
    assert 0.1 < white.mean() < 0.15
    assert (drawn[~white] == 100).all()


def test_the_ground_truth_stands_on_the_right() -> None:
    drawn = draw_map(grey(), halves(1, 1), NAMES, halves(2, 2))
    assert drawn.shape[1] == 2 * SIZE[1]
    np.testing.assert_allclose(drawn[30, 50], mixed(1), atol=1)
    np.testing.assert_allclose(drawn[30, 250], mixed(2), atol=1)
    assert all(has_colour(drawn[SIZE[0] :], label) for label in (1, 2))


def test_many_names_take_several_lines() -> None:
    names = [f"class number {number}" for number in range(12)]
    classes = np.repeat(np.arange(12, dtype=np.uint8), 50).reshape(-1, 200)
    one = draw_map(np.zeros((*classes.shape, 3), np.uint8), np.zeros_like(classes), names)
    many = draw_map(np.zeros((*classes.shape, 3), np.uint8), classes, names)
    assert many.shape[0] - 3 >= 6 * (one.shape[0] - 3)
