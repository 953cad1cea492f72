"""COCO segmentations to masks."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from mbdet.errors import InputError


def decode_segmentation(segmentation: object, height: int, width: int) -> NDArray[np.bool_]:
    """Decode one object's segmentation, in any of COCO's three forms.

    Everything is checked before use: pycocotools corrupts memory on malformed polygons and run lengths.

    Args:
        segmentation: Polygons `[[x, y, x, y, ...], ...]` in pixels, or run lengths `{"size": [height, width], "counts":
            ...}` with counts as a list or compressed in a string.
        height: Height of the image.
        width: Width of the image.

    Returns:
        Mask (height, width), True on the object.

    Raises:
        InputError: If the segmentation has none of these forms or does not fit the image.
    """
    if isinstance(segmentation, list):
        return _fill_polygons(segmentation, height, width)
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= segmentation.keys():
        raise InputError("segmentation is neither polygons nor run lengths with size and counts; correct or remove it")
    if list(segmentation["size"]) != [height, width]:
        raise InputError(
            f"segmentation has size {segmentation['size']}, its image {[height, width]} (height, width);"
            " correct or remove it"
        )
    counts = segmentation["counts"]
    if isinstance(counts, str | bytes):
        counts = _decompress(counts.encode() if isinstance(counts, str) else counts)
    # Runs alternate between off and on, down the columns, beginning with off.
    runs, area = _numbers(counts), height * width
    if not np.all((runs >= 0) & (runs <= area)) or runs.sum() != area:
        raise InputError(f"segmentation's runs do not add up to {area} pixels; correct or remove it")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs.astype(np.int64)).reshape(width, height).T


def _fill_polygons(polygons: Sequence[object], height: int, width: int) -> NDArray[np.bool_]:
    if not polygons:
        return np.zeros((height, width), dtype=np.bool_)
    outlines, reach = [_numbers(polygon) for polygon in polygons], max(height, width)
    for outline in outlines:
        # What lies far outside would cost pycocotools time and memory without limit. NaN fails here too.
        near = np.all((outline >= -reach) & (outline <= 2 * reach))
        if outline.size < 6 or outline.size % 2 or not near:
            raise InputError(
                "segmentation has a polygon that is not [x, y, ...] of three or more points in the image;"
                " correct or remove it"
            )
    runs = coco_mask.merge(coco_mask.frPyObjects([outline.tolist() for outline in outlines], height, width))
    return np.asarray(coco_mask.decode(runs), dtype=np.bool_)


def _numbers(values: object) -> NDArray[np.float64]:
    """One list of numbers; anything else becomes an empty one, which fits no image."""
    try:
        numbers = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return np.empty(0)
    return numbers if numbers.ndim == 1 else np.empty(0)


def _decompress(text: bytes) -> list[int]:
    """Run lengths from COCO's string form: base 32, lowest digit first, from the third on relative to the last but one.

    Source: rleFrString in maskApi.c of the COCO API.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        digit = character - 48
        value |= (digit & 31) << shift
        shift += 5
        if digit & 32:  # more digits follow
            continue
        if digit & 16:  # negative
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return counts
