"""Maps of classes on their way back to the picture, and into files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mbdet.data.mask_files import read_mask
from mbdet.runtime.image import Resizing, place
from mbdet.runtime.maps import class_palette, restore_map, save_map
from mbdet.runtime.predictor import restore_segmentations

VOC_NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "colour"),
    [
        ("background", (0, 0, 0)),
        ("aeroplane", (128, 0, 0)),
        ("bicycle", (0, 128, 0)),
        ("person", (192, 128, 128)),
        ("tvmonitor", (0, 64, 128)),
    ],
)
def test_the_palette_is_voc_s(name: str, colour: tuple[int, int, int]) -> None:
    assert tuple(class_palette(VOC_NAMES)[VOC_NAMES.index(name)]) == colour


def test_classes_without_background_begin_with_the_first_object() -> None:
    palette = class_palette([str(number) for number in range(255)])
    np.testing.assert_array_equal(palette[:20], class_palette(VOC_NAMES)[1:])
    assert len(np.unique(palette, axis=0)) == 255
    assert palette.any(axis=1).all()


@pytest.mark.parametrize("resizing", ["stretch", "fit", "pad"])
@pytest.mark.parametrize("size", [(37, 53), (151, 67), (1, 90), (48, 64), (64, 48), (200, 3)])
def test_what_was_placed_comes_back(size: tuple[int, int], resizing: Resizing) -> None:
    """A picture of four plain quarters is the map of its own classes, but for pixels beside their borders."""
    height, width = size
    rows, columns = np.arange(height)[:, None], np.arange(width)
    truth = (2 * (rows >= height // 2) + (columns >= width // 2)).astype(np.uint8)
    placed = place((60 * truth)[..., None].repeat(3, 2), (48, 64), resizing)[..., 0]
    values = np.round(placed / 60).astype(np.uint8)
    restored = restore_map(values, size, (48, 64), resizing)
    assert restored.shape == size
    assert restored.dtype == np.uint8
    # A pixel of the network input is so many of the picture; beside a border two of them may have mixed.
    cell = max(1, height / 48, width / 64) * 1.5
    inner = (np.abs(rows + 0.5 - height // 2) > cell) & (np.abs(columns + 0.5 - width // 2) > cell)
    np.testing.assert_array_equal(restored[inner], truth[inner])


@pytest.mark.parametrize(("size", "resizing"), [((24, 32), "pad"), ((96, 64), "fit"), ((24, 64), "fit")])
def test_padding_does_not_come_back(size: tuple[int, int], resizing: Resizing) -> None:
    white = np.full((*size, 3), 255, np.uint8)
    shown = place(white, (48, 64), resizing)[..., 2] == 255
    assert 0 < shown.mean() < 1
    assert restore_map(shown.astype(np.uint8), size, (48, 64), resizing).all()


def test_scores_come_back_like_their_classes() -> None:
    classes = np.random.default_rng(0).integers(0, 9, (2, 48, 64), dtype=np.uint8)
    scores = classes.astype(np.float32) / 8
    found = restore_segmentations(classes, scores, np.array([[31, 97], [70, 20]]), "fit")
    assert [each.classes.shape for each in found] == [(31, 97), (70, 20)]
    for each in found:
        assert each.scores is not None
        np.testing.assert_array_equal(each.scores, each.classes.astype(np.float32) / 8)


def test_a_saved_map_is_read_as_a_mask(tmp_path: Path) -> None:
    classes = np.random.default_rng(0).integers(0, 21, (33, 47), dtype=np.uint8)
    classes[:3] = 255
    path = tmp_path / "masks" / "a.png"
    save_map(classes, class_palette(VOC_NAMES), path)
    np.testing.assert_array_equal(read_mask(path), classes)
    with Image.open(path) as picture:
        assert picture.mode == "P"
        colours = np.asarray(picture.convert("RGB"))
    palette = np.concatenate([class_palette(VOC_NAMES), np.zeros((234, 3), np.uint8), [[224, 224, 192]]])
    np.testing.assert_array_equal(colours, palette[classes])
    assert [file.name for file in path.parent.iterdir()] == ["a.png"]
