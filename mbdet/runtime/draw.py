"""Predictions and ground truth drawn into images, and images laid out as a sheet, with Pillow.

Images are uint8 (H, W, 3) RGB; boxes are xyxy pixels of the image that they are drawn into.
"""

import colorsys
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from mbdet.runtime.types import Classification, Detections

_Colour = tuple[int, int, int]
_Rectangle = tuple[int, int, int, int]  # left, top, right, bottom in whole pixels

_BLACK: _Colour = (0, 0, 0)
_WHITE: _Colour = (255, 255, 255)
_RIGHT: _Colour = (0, 150, 60)
_WRONG: _Colour = (205, 30, 30)


def draw_detections(
    image: NDArray[np.uint8],
    detections: Detections,
    class_names: Sequence[str],
    score_threshold: float,
    ground_truth: NDArray[np.float32] | None = None,
    ids: NDArray[np.int64] | None = None,
) -> NDArray[np.uint8]:
    """Draw detections as solid boxes in the colour of their class, each with a label such as "dog 87%".

    Args:
        image: (H, W, 3) RGB; left as it is.
        detections: Boxes in xyxy pixels of this image.
        class_names: K names, indexed by label. The font has Latin letters only.
        score_threshold: Detections with a lower score are left out.
        ground_truth: (N, 4) xyxy pixels of this image, drawn as thin dashes in black and white, without names.
        ids: A number for each detection, written before its name as in "#3 dog 87%"; -1 where it has none.

    Returns:
        A copy, (H, W, 3) RGB. A label for which the image is too small is left out.
    """
    canvas = Image.fromarray(image)
    pen = ImageDraw.Draw(canvas)
    stroke = max(1, round(_scale(canvas) / 250))  # 2 pixels at 640x480
    keep = detections.scores >= score_threshold
    boxes = _rectangles(detections.boxes[keep], canvas)
    colours = [class_colour(label) for label in detections.labels[keep].tolist()]
    numbers = [-1] * len(boxes) if ids is None else ids[keep].tolist()
    texts = [
        f"{f'#{number} ' if number >= 0 else ''}{class_names[label]} {score:.0%}"
        for number, label, score in zip(
            numbers, detections.labels[keep].tolist(), detections.scores[keep].tolist(), strict=True
        )
    ]
    # From the worst to the best, so that the best lies on top; the dashes above the boxes, since they often coincide.
    for box, colour in reversed(list(zip(boxes, colours, strict=True))):
        pen.rectangle(box, outline=colour, width=stroke)
    if ground_truth is not None:
        for box in _rectangles(ground_truth, canvas):
            _dashed_rectangle(pen, box, max(1, stroke // 2))
    _write_labels(canvas, pen, boxes, texts, colours)
    return np.array(canvas)


def draw_classification(
    image: NDArray[np.uint8], found: Classification, class_names: Sequence[str], truth: int | None = None
) -> NDArray[np.uint8]:
    """Write the likeliest class and its probability at the top, such as "dog 87%", and the true class at the bottom.

    Args:
        image: (H, W, 3) RGB; left as it is.
        found: Classes of this image; of none nothing is written.
        class_names: K names, indexed by label. The font has Latin letters only.
        truth: The label; both texts are then on green where it was found, and on red where not.

    Returns:
        A copy, (H, W, 3) RGB. The texts are as large as the width allows.
    """
    canvas = Image.fromarray(image)
    pen = ImageDraw.Draw(canvas)
    labels = found.labels[:1].tolist()
    colour = _BLACK if truth is None else _RIGHT if labels == [truth] else _WRONG
    for label, score in zip(labels, found.scores[:1].tolist(), strict=True):
        _write_line(canvas, pen, f"{class_names[label]} {score:.0%}", colour, at_bottom=False)
    if truth is not None:
        _write_line(canvas, pen, f"is {class_names[truth]}", colour, at_bottom=True)
    return np.array(canvas)


def contact_sheet(images: Sequence[NDArray[np.uint8]], columns: int, tile_width: int) -> NDArray[np.uint8]:
    """Lay images out in rows, each scaled to fit a square and centred in its place.

    Args:
        images: At least one, (H, W, 3) RGB, of any sizes.
        columns: Images per row.
        tile_width: Side of the square in pixels. A row is as high as its highest image.

    Returns:
        (H, W, 3) RGB on white.
    """
    tiles = [ImageOps.contain(Image.fromarray(image), (tile_width, tile_width)) for image in images]
    gap = max(2, tile_width // 40)
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    heights = [max(tile.height for tile in row) for row in rows]
    width = gap + len(rows[0]) * (tile_width + gap)
    sheet = Image.new("RGB", (width, gap + sum(heights) + gap * len(rows)), _WHITE)
    top = gap
    for row, height in zip(rows, heights, strict=True):
        for column, tile in enumerate(row):
            left = gap + (tile_width + gap) * column
            sheet.paste(tile, (left + (tile_width - tile.width) // 2, top + (height - tile.height) // 2))
        top += height + gap
    return np.array(sheet)


def class_colour(label: int) -> _Colour:
    """Return the colour of a class, always the same: steps of the golden ratio keep any number of hues apart."""
    hue = (0.02 + label * 0.618034) % 1
    saturation, value = ((0.9, 1.0), (0.6, 1.0), (0.9, 0.75))[label % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _scale(canvas: Image.Image) -> float:
    """Return the side of the square that is as large as the canvas."""
    return math.sqrt(canvas.width * canvas.height)


def _rectangles(boxes: NDArray[np.float32], canvas: Image.Image) -> list[_Rectangle]:
    """Round boxes to pixels inside the canvas."""
    limits = np.array([canvas.width, canvas.height, canvas.width, canvas.height]) - 1
    pixels = np.clip(np.round(boxes), 0, limits).astype(int)
    return [(left, top, max(left, right), max(top, bottom)) for left, top, right, bottom in pixels.tolist()]


def _write_labels(
    canvas: Image.Image,
    pen: ImageDraw.ImageDraw,
    boxes: Sequence[_Rectangle],
    texts: Sequence[str],
    colours: Sequence[_Colour],
) -> None:
    """Write each text on its colour at an edge of its box, inside the canvas and off the labels before it if it can."""
    font_size = max(9, round(_scale(canvas) / 40))
    font = ImageFont.load_default(size=font_size)
    padding = max(1, font_size // 6)
    _, text_top, _, text_bottom = font.getbbox("Mg")
    height = math.ceil(text_bottom - text_top) + 2 * padding
    labels: list[tuple[_Rectangle, str, _Colour]] = []
    for (left, top, _, bottom), text, colour in zip(boxes, texts, colours, strict=True):
        width = math.ceil(font.getlength(text)) + 2 * padding
        if width > canvas.width or height > canvas.height:
            continue
        x = min(left, canvas.width - width)
        # Above the box, inside its upper edge, inside its lower edge, below the box.
        ys = [min(max(y, 0), canvas.height - height) for y in (top - height, top, bottom - height, bottom)]
        places = [(x, y, x + width, y + height) for y in ys]
        free = [place for place in places if not any(_overlap(place, taken) for taken, _, _ in labels)]
        labels.append(((free or places)[0], text, colour))

    for (left, top, right, bottom), text, colour in reversed(labels):
        pen.rectangle((left, top, right - 1, bottom - 1), fill=colour)
        luminance = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
        pen.text(
            (left + padding, top + padding - text_top), text, fill=_BLACK if luminance > 110 else _WHITE, font=font
        )


def _write_line(canvas: Image.Image, pen: ImageDraw.ImageDraw, text: str, ground: _Colour, *, at_bottom: bool) -> None:
    """Write one line in white on a strip at the left end of the upper or lower border."""
    size = max(10, round(_scale(canvas) / 14))
    length = ImageFont.load_default(size=size).getlength(text)
    size = max(6, min(size, int(size * 0.95 * canvas.width / length)))
    font = ImageFont.load_default(size=size)
    _, text_top, _, text_bottom = font.getbbox("Mg")
    padding = max(1, size // 6)
    height = math.ceil(text_bottom - text_top) + 2 * padding
    top = canvas.height - height if at_bottom else 0
    pen.rectangle((0, top, math.ceil(font.getlength(text)) + 2 * padding, top + height - 1), fill=ground)
    pen.text((padding, top + padding - text_top), text, fill=_WHITE, font=font)


def _overlap(one: _Rectangle, other: _Rectangle) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _dashed_rectangle(pen: ImageDraw.ImageDraw, box: _Rectangle, width: int) -> None:
    """Draw the outline of a box in black with dashes in white, to be seen on any ground."""
    left, top, right, bottom = box
    pen.rectangle(box, outline=_BLACK, width=width)
    dash = 4 * width
    for x in range(left, right, 2 * dash):
        end = min(x + dash - 1, right)
        pen.rectangle((x, top, end, min(top + width - 1, bottom)), fill=_WHITE)
        pen.rectangle((x, max(bottom - width + 1, top), end, bottom), fill=_WHITE)
    for y in range(top, bottom, 2 * dash):
        end = min(y + dash - 1, bottom)
        pen.rectangle((left, y, min(left + width - 1, right), end), fill=_WHITE)
        pen.rectangle((max(right - width + 1, left), y, right, end), fill=_WHITE)
