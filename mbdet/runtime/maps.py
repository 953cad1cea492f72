"""Maps of classes: back to the original image, and as picture files."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mbdet.runtime.files import write_atomically
from mbdet.runtime.image import Resizing, placed_size

Value = TypeVar("Value", np.uint8, np.float32)
BACKGROUND = "background"  # name of the class 0 that data sets have for whatever is of no other class


def restore_map(
    values: NDArray[Value], size: tuple[int, int], input_size: tuple[int, int], resizing: Resizing
) -> NDArray[Value]:
    """Bring a map from the network input back to the original image, each pixel from the nearest.

    Args:
        values: (H, W) of the network input.
        size: Height and width of the original image.
        input_size: H and W.
        resizing: How the image was brought to the network input.

    Returns:
        (height, width) of the original image.
    """
    height, width = placed_size(size, input_size, resizing)
    shown = values[:height, :width]
    if shown.shape == tuple(size):
        return shown
    # Contiguous, as Pillow reads the memory in rows.
    picture = Image.fromarray(np.ascontiguousarray(shown))
    return np.array(picture.resize((size[1], size[0]), Image.Resampling.NEAREST))


def class_palette(class_names: Sequence[str]) -> NDArray[np.uint8]:
    """Return a colour for each class: those of Pascal VOC's masks (VOClabelcolormap.m of its development kit).

    Args:
        class_names: The K names, at least one. If the first is background, it is black; otherwise it has the colour of
            VOC's first object, and so on.

    Returns:
        (K, 3) RGB.
    """
    number = np.arange(len(class_names)) + (class_names[0] != BACKGROUND)
    # Bits 0, 3 and 6 of the number make red from its highest bit down, 1, 4 and 7 green, 2, 5 and 8 blue.
    bits = [[(number >> (3 * place + channel)) & 1 for place in range(3)] for channel in range(3)]
    colours = [sum(bit << (7 - place) for place, bit in enumerate(channel)) for channel in bits]
    return np.stack(colours, axis=1).astype(np.uint8)


def save_map(classes: NDArray[np.uint8], palette: NDArray[np.uint8], path: Path) -> None:
    """Write a map of classes as a PNG whose palette indices are the classes, as Pascal VOC has its masks.

    Args:
        classes: (H, W) 0..K-1, or 255.
        palette: (K, 3) RGB; 255 is shown in VOC's light colour of borders.
        path: The file.
    """
    colours = np.zeros((256, 3), dtype=np.uint8)
    colours[: len(palette)] = palette
    colours[255] = (224, 224, 192)
    picture = Image.fromarray(classes)
    picture.putpalette(colours.tobytes())
    with write_atomically(path) as temporary:
        picture.save(temporary, format="PNG")
