"""A sheet of predictions beside the ground truth."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mbdet.errors import InputError
from mbdet.runtime.draw import contact_sheet
from mbdet.runtime.files import write_atomically
from mbdet.runtime.predictor import Predictor


def draw_gallery(
    predictor: Predictor[Any],
    dataset: Any,
    draw: Callable[[Any, Any], NDArray[np.uint8]],
    path: Path,
    count: int = 12,
) -> None:
    """Draw what a network finds in images spread over a data set.

    Args:
        predictor: The network.
        dataset: Its items are samples with an `image` as the network sees it, or None for one that is left out.
        draw: Draws a sample with what was found in it.
        path: The picture to write.
        count: Number of images.

    Raises:
        InputError: If none of these images can be read.
    """
    tiles = []
    for index in np.linspace(0, len(dataset) - 1, min(count, len(dataset))).astype(int).tolist():
        sample = dataset[index]
        if sample is None:  # unreadable, and skipped as the user asked
            continue
        size = np.array(sample.image.shape[:2])
        (found,) = predictor.predict(sample.image.transpose(2, 0, 1)[None], size[None])
        tiles.append(draw(sample, found))
    if not tiles:
        raise InputError(f"{path}: nothing to draw, as none of the {count} images tried can be read; replace them")
    with write_atomically(path) as temporary:
        Image.fromarray(contact_sheet(tiles, columns=4, tile_width=320)).save(temporary, quality=90)
