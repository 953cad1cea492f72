"""Maps of classes drawn over their images, with a legend, with Pillow."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mbdet.runtime.maps import BACKGROUND, class_palette

OPACITY = 0.55
_SMALLEST_SHARE = 0.001  # of the pixels that a class needs to be named


def draw_map(
    image: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    class_names: Sequence[str],
    truth: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Lay the colours of the classes over an image, their outlines darker, with the names below it.

    Background is left as it is; pixels of class 255 are hatched.

    Args:
        image: (H, W, 3) RGB; left as it is.
        classes: (H, W) 0..K-1, or 255.
        class_names: The K names. The font has Latin letters only.
        truth: The same of the ground truth, which is drawn beside it, to the right.

    Returns:
        (H + legend, W or 2 W, 3) RGB. The legend has the classes by falling area, with their share of the pixels.
    """
    maps = [classes] if truth is None else [classes, truth]
    overlays = np.concatenate([lay_over(image, each, class_names) for each in maps], axis=1)
    shown = np.concatenate([each.ravel() for each in maps])
    font_size = max(10, round(math.sqrt(image.shape[0] * image.shape[1]) / 32))
    return np.concatenate([overlays, draw_legend(shown, class_names, overlays.shape[1], font_size)])


def draw_legend(
    classes: NDArray[np.uint8], class_names: Sequence[str], width: int, font_size: int
) -> NDArray[np.uint8]:
    """Lay the colours of the classes out with their names and shares, by falling area, on white.

    Args:
        classes: All pixels, of any shape: 0..K-1, or 255.
        class_names: The K names. The font has Latin letters only.
        width: Of the legend, in pixels.
        font_size: Likewise.

    Returns:
        (H, width, 3) RGB, with as many lines as it needs; none where nothing but background is shown.
    """
    has_background = class_names[0] == BACKGROUND
    palette = class_palette(class_names)
    counts = np.bincount(classes.ravel(), minlength=256)[: len(class_names)]
    order = [label for label in np.argsort(-counts, kind="stable") if counts[label] > _SMALLEST_SHARE * classes.size]
    entries = [
        (f"{class_names[label]} {counts[label] / classes.size:.0%}", palette[label])
        for label in order
        if not (has_background and label == 0)
    ]
    return _legend(entries, width, font_size)


def lay_over(image: NDArray[np.uint8], classes: NDArray[np.uint8], class_names: Sequence[str]) -> NDArray[np.uint8]:
    """Lay the colours of the classes over an image, see `draw_map`, without a legend."""
    palette = class_palette(class_names)
    has_background = class_names[0] == BACKGROUND
    painted = (classes < len(palette)) & ~(has_background & (classes == 0))
    mixed = image.astype(np.float32)
    mixed[painted] = (1 - OPACITY) * mixed[painted] + OPACITY * palette[classes[painted]]
    rows, columns = np.indices(classes.shape)
    hatched = (classes >= len(palette)) & ((rows + columns) % 8 == 0)
    mixed[hatched] = 255
    # Where the class to the right or below is another one.
    edge = np.zeros(classes.shape, dtype=np.bool_)
    edge[:, :-1] |= classes[:, :-1] != classes[:, 1:]
    edge[:-1] |= classes[:-1] != classes[1:]
    mixed[edge] *= 0.4
    return np.round(mixed).astype(np.uint8)


def _legend(entries: Sequence[tuple[str, NDArray[np.uint8]]], width: int, font_size: int) -> NDArray[np.uint8]:
    """Lay squares of colour with their texts out in lines, on white."""
    font = ImageFont.load_default(size=font_size)
    line, gap = math.ceil(1.6 * font_size), max(2, font_size // 3)
    places: list[tuple[int, int]] = []
    x, y = gap, 0
    for text, _ in entries:
        needed = font_size + gap + math.ceil(font.getlength(text)) + 2 * gap
        if x > gap and x + needed > width:
            x, y = gap, y + line
        places.append((x, y))
        x += needed
    picture = Image.new("RGB", (width, y + line if entries else 0), (255, 255, 255))
    pen = ImageDraw.Draw(picture)
    for (text, colour), (left, top) in zip(entries, places, strict=True):
        square = top + (line - font_size) // 2
        pen.rectangle(
            (left, square, left + font_size, square + font_size), fill=tuple(colour.tolist()), outline=(0, 0, 0)
        )
        pen.text((left + font_size + gap, top + line // 2), text, fill=(0, 0, 0), font=font, anchor="lm")
    return np.array(picture).reshape(-1, width, 3)
