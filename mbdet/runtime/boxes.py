"""Which annotated boxes can be used: one answer for those who train on them and those who evaluate against them."""

from collections.abc import Mapping
from typing import Any

Box = tuple[float, float, float, float]
Size = tuple[int, int]


def read_coco_size(image: Mapping[str, Any]) -> Size | None:
    """Return the height and width of a COCO image record, if it has them."""
    height, width = image.get("height"), image.get("width")
    if isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0:
        return height, width
    return None


def read_coco_box(bbox: object, size: Size | None) -> Box:
    """From COCO's x, y, width, height to xyxy.

    Args:
        bbox: As the file has it.
        size: Height and width of the image that the box is clipped to, if known.

    Raises:
        ValueError: If the box cannot be used; it says why.
    """
    if not (isinstance(bbox, list) and len(bbox) == 4 and all(isinstance(side, int | float) for side in bbox)):
        raise ValueError(f"bbox {bbox!r} is not four numbers x, y, width, height")
    x, y, w, h = bbox
    if not (abs(x) < 1e9 and abs(y) < 1e9 and 0 < w < 1e9 and 0 < h < 1e9):  # false for NaN too
        raise ValueError(f"bbox {bbox!r} has no positive width and height at a finite place")
    box = (x, y, x + w, y + h)
    try:
        return box if size is None else clip_box(box, size)
    except ValueError as error:
        raise ValueError(f"bbox {bbox!r} {error}") from None


def clip_box(box: Box, size: Size) -> Box:
    """Clip xyxy pixels to an image of height and width `size`.

    Raises:
        ValueError: If nothing is left.
    """
    height, width = size
    x1, y1, x2, y2 = max(box[0], 0.0), max(box[1], 0.0), min(box[2], width), min(box[3], height)
    if min(x2 - x1, y2 - y1) < 0.01:  # pixels; rounded to single precision, less could become nothing
        raise ValueError(f"has no area within its image of {width}x{height} (width x height)")
    return x1, y1, x2, y2
