"""Drawings: what is where, in which colour, and what stays untouched."""

import colorsys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mbdet.runtime.draw import contact_sheet, draw_classification, draw_detections
from mbdet.runtime.types import Classification, Detections

NAMES = [f"class {number}" for number in range(80)]
NOTHING = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


def detections(boxes: list[list[float]], scores: list[float], labels: list[int]) -> Detections:
    return Detections(np.array(boxes, np.float32), np.array(scores, np.float32), np.array(labels))


def grey(height: int, width: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), 128, np.uint8)


def changed(drawn: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return (drawn != 128).any(axis=2)


def letters(drawn: NDArray[np.uint8]) -> int:
    """Count the pixels of the text on labels of class 0, which are black on a red ground."""
    return int((drawn[:, :, 0] < 100).sum())


def test_a_box_is_an_outline_with_a_label_above() -> None:
    image = grey(480, 640)
    drawn = draw_detections(image, detections([[200, 100, 400, 300]], [0.87], [2]), NAMES, 0.5)
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    assert not changed(image).any()
    drawn[0, 0] = 0  # a copy to draw on

    colour = drawn[300, 350].tolist()
    for row, column in ((100, 350), (299, 350), (200, 200), (200, 201), (200, 400)):
        assert drawn[row, column].tolist() == colour
    assert not changed(drawn)[102:299, 202:399].any()
    label = changed(drawn)[1:100]
    assert label.any()
    assert not label[:, :200].any()
    assert not label[:, 400:].any()
    assert not changed(drawn)[301:].any()


def test_scores_below_the_threshold_are_left_out() -> None:
    found = detections([[10, 50, 60, 90], [100, 50, 160, 90]], [0.5, 0.25], [0, 1])
    drawn = changed(draw_detections(grey(120, 200), found, NAMES, 0.3))
    assert drawn[:, :90].any()
    assert not drawn[:, 99:].any()
    assert changed(draw_detections(grey(120, 200), found, NAMES, 0.25))[:, 99:].any()
    assert not changed(draw_detections(grey(120, 200), NOTHING, NAMES, 0.0)).any()


def test_labels_are_the_names_and_scores() -> None:
    def label(name: str, score: float) -> bytes:
        names = [name]
        return draw_detections(grey(200, 300), detections([[50, 90, 200, 150]], [score], [0]), names, 0.1).tobytes()

    assert label("dog", 0.871) == label("dog", 0.869)  # 87% both
    assert len({label("dog", 0.87), label("cat", 0.87), label("dog", 0.86)}) == 3


def test_classes_have_lasting_colours_of_their_own() -> None:
    def colour(label: int) -> tuple[int, ...]:
        drawn = draw_detections(grey(300, 300), detections([[50, 100, 250, 200]], [0.9], [label]), NAMES, 0.5)
        return tuple(drawn[150, 50].tolist())

    colours = [colour(label) for label in range(80)]
    assert colours == [colour(label) for label in range(80)]
    assert len(set(colours)) == 80
    for red, green, blue in colours:
        _, saturation, value = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
        assert saturation > 0.5
        assert value > 0.7
    neighbours = np.abs(np.diff(np.array(colours), axis=0)).sum(axis=1)
    assert neighbours.min() > 100


@pytest.mark.parametrize("corner", [(0, 0), (250, 0), (0, 180), (250, 180), (-50, -50), (290, 190)])
def test_labels_are_inside_the_image(corner: tuple[int, int]) -> None:
    """A whole label at a border is as large as one in the middle."""
    x, y = corner
    middle = draw_detections(grey(200, 300), detections([[100, 100, 140, 115]], [0.99], [0]), NAMES, 0.5)
    border = draw_detections(grey(200, 300), detections([[x, y, x + 40, y + 15]], [0.99], [0]), NAMES, 0.5)
    assert letters(border) == letters(middle) > 50


def test_labels_avoid_each_other() -> None:
    one = draw_detections(grey(200, 300), detections([[100, 80, 200, 150]], [0.99], [0]), NAMES, 0.5)
    two = draw_detections(
        grey(200, 300), detections([[100, 80, 200, 150], [103, 82, 203, 152]], [0.99, 0.99], [0, 0]), NAMES, 0.5
    )
    assert letters(two) == 2 * letters(one) > 100


def test_a_label_without_a_place_of_its_own_is_under_the_best() -> None:
    """Four detections of one object at the lower border, where only three labels find room."""
    box = [100.0, 130.0, 200.0, 192.0]
    one = draw_detections(grey(200, 300), detections([box], [0.99], [0]), NAMES, 0.5)
    four = draw_detections(grey(200, 300), detections([box] * 4, [0.99] * 4, [0] * 4), NAMES, 0.5)
    assert letters(four) == 3 * letters(one)


def test_lines_and_letters_grow_with_the_image() -> None:
    small = draw_detections(grey(480, 640), detections([[200, 200, 400, 300]], [0.9], [0]), NAMES, 0.5)
    large = draw_detections(grey(1920, 2560), detections([[800, 800, 1600, 1200]], [0.9], [0]), NAMES, 0.5)
    width_small, width_large = changed(small)[250, :300].sum(), changed(large)[1000, :1200].sum()
    assert 3 * width_small < width_large < 5 * width_small
    height_small, height_large = changed(small)[:200, 205].sum(), changed(large)[:800, 820].sum()
    assert 3 * height_small < height_large < 5 * height_small


@pytest.mark.parametrize(("height", "width"), [(6, 200), (200, 20)])
def test_a_label_larger_than_the_image_is_left_out(height: int, width: int) -> None:
    drawn = draw_detections(grey(height, width), detections([[0, 0, 3, 3]], [0.9], [0]), NAMES, 0.5)
    assert changed(drawn).sum() == changed(drawn)[:4, :4].sum() > 0


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (30, 40)])
def test_tiny_images(size: tuple[int, int]) -> None:
    height, width = size
    found = detections([[0, 0, width, height], [5, 5, 5, 5]], [0.9, 0.8], [0, 1])
    drawn = draw_detections(grey(height, width), found, NAMES, 0.5, found.boxes)
    assert drawn.shape == (height, width, 3)
    assert changed(drawn)[0, 0]


def test_ground_truth_is_black_and_white_and_seen_where_a_detection_coincides() -> None:
    box = [[200, 100, 400, 300]]
    truth = np.array(box, np.float32)
    alone = draw_detections(grey(480, 640), NOTHING, NAMES, 0.5, truth)
    colours = {tuple(pixel) for pixel in alone[changed(alone)].tolist()}
    assert colours == {(0, 0, 0), (255, 255, 255)}
    for edge in (alone[100, 200:400], alone[300, 200:400], alone[100:300, 200], alone[100:300, 400]):
        assert {tuple(pixel) for pixel in edge.tolist()} == colours

    both = draw_detections(grey(480, 640), detections(box, [0.9], [2]), NAMES, 0.5, truth)
    edge = {tuple(pixel) for row in both[298:301, 210:390].tolist() for pixel in row}
    assert len(edge - {(128, 128, 128)}) == 3  # black, white and the detection's colour


def test_contact_sheet() -> None:
    images = [np.full((*size, 3), shade, np.uint8) for shade, size in enumerate([(60, 120), (200, 100), (9, 9)], 10)]
    sheet = contact_sheet(images, columns=2, tile_width=80)
    # Tiles of 80x40, 40x80 and 80x80, gaps of 2, rows of 80 and 80.
    assert sheet.shape == (2 + 82 * 2, 2 + 82 * 2, 3)
    assert [int((sheet == shade).all(axis=2).sum()) for shade in (10, 11, 12)] == [80 * 40, 40 * 80, 80 * 80]
    assert (sheet[22:62, 2:82] == 10).all()
    assert (sheet[2:82, 104:144] == 11).all()
    assert (sheet[84:164, 2:82] == 12).all()
    assert (sheet[84:, 84:] == 255).all()
    assert contact_sheet(images[:1], columns=5, tile_width=80).shape == (44, 84, 3)


def test_real_image(real_data: Path) -> None:
    file = next((real_data / "coco" / "val2017").glob("*.jpg"))
    with Image.open(file) as opened:
        image = np.asarray(opened.convert("RGB"))
    before = image.copy()
    found = detections([[20, 30, 200, 210]], [0.6], [3])
    assert (draw_detections(image, found, NAMES, 0.5) != image).any()
    np.testing.assert_array_equal(image, before)


def classified(label: int, score: float) -> Classification:
    return Classification(np.array([score, 0.01], np.float32), np.array([label, 79], np.int64))


def test_a_class_stands_at_the_top_and_the_truth_at_the_bottom() -> None:
    image = grey(224, 224)
    alone = changed(draw_classification(image, classified(3, 0.87), NAMES))
    assert alone[:40].any()
    assert not alone[60:].any()
    assert not changed(image).any()
    both = draw_classification(image, classified(3, 0.87), NAMES, truth=5)
    assert changed(both)[:40].any()
    assert changed(both)[-40:].any()
    assert not changed(both)[60:-60].any()


def test_the_ground_tells_right_from_wrong() -> None:
    for label, channel in ((5, 1), (4, 0)):
        drawn = draw_classification(grey(100, 100), classified(label, 0.5), NAMES, truth=5)
        assert drawn[0, 0].argmax() == drawn[-1, 0].argmax() == channel  # green, red


def test_only_the_likeliest_class_is_written() -> None:
    other = Classification(np.array([0.87, 0.2], np.float32), np.array([3, 7], np.int64))
    image = grey(100, 200)
    one = draw_classification(image, classified(3, 0.87), NAMES)
    np.testing.assert_array_equal(draw_classification(image, other, NAMES), one)
    nothing = Classification(np.zeros(0, np.float32), np.zeros(0, np.int64))
    np.testing.assert_array_equal(draw_classification(image, nothing, NAMES), image)


def test_text_fits_small_images_and_long_names() -> None:
    drawn = draw_classification(grey(48, 64), classified(0, 0.5), ["bull mastiff"])
    columns = np.flatnonzero((drawn[:, :, 0] > 200).any(axis=0))  # letters are white
    assert columns.max() < 63
    assert draw_classification(grey(8, 8), classified(0, 0.5), ["x" * 200]).shape == (8, 8, 3)
