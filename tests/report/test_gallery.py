from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mbdet.errors import InputError
from mbdet.report.gallery import draw_gallery


class Sample(NamedTuple):
    image: NDArray[np.uint8]
    number: int


class Brightness:
    """Finds the mean of each image."""

    def predict(self, images: NDArray[np.uint8], sizes: NDArray[np.int64]) -> list[float]:
        assert images.shape[1:] == (3, *sizes[0])
        return [float(image.mean()) for image in images]


def test_tiles_are_drawn_from_samples_and_what_was_found(tmp_path: Path) -> None:
    dataset: list[Any] = [Sample(np.full((20, 30, 3), 10 * number, np.uint8), number) for number in range(25)]
    dataset[24] = None  # the last of twelve is unreadable
    drawn: list[tuple[int, float]] = []

    def draw(sample: Sample, found: float) -> NDArray[np.uint8]:
        drawn.append((sample.number, found))
        return sample.image

    path = tmp_path / "new" / "sheet.jpg"
    draw_gallery(Brightness(), dataset, draw, path)  # type: ignore[arg-type]  # a stand-in
    assert len(drawn) == 11
    assert all(found == 10 * number for number, found in drawn)
    assert drawn[0][0] == 0
    assert Image.open(path).width > 4 * 320
    assert [file.name for file in path.parent.iterdir()] == ["sheet.jpg"]


def test_no_readable_image(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none of the 12 images tried can be read"):
        draw_gallery(Brightness(), [None, None], lambda sample, found: sample.image, tmp_path / "sheet.jpg")  # type: ignore[arg-type]
