"""Segmentation data whose masks are picture files, one for each image."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mbdet.data.records import OnError, Problems, list_files
from mbdet.data.segmentation_dataset import SegmentationDataset
from mbdet.data.segmentation_transforms import SegmentationTransform
from mbdet.errors import InputError
from mbdet.runtime.image import read_image
from mbdet.runtime.types import IGNORED

_UNKNOWN = -1
_CHECKED = 16  # masks that are read at once, to find what is wrong with all of them


class Pair(NamedTuple):
    """An image and its mask, relative to the root of the data set."""

    image: str
    mask: str


class MaskFiles(SegmentationDataset):
    """Images and their mask files, whose gray values or palette indices are classes.

    Args:
        root: Folder that all files are relative to.
        pairs: The files of each image id.
        class_names: Names of the K classes by label.
        labels: Label of each value in a mask, 255 for values that do not count. A value of 255 itself never counts,
            whether it is listed or not.
        source: What lists the images, for messages.
        transform: What every sample goes through; None leaves image and mask as they are.
        train: What becomes of an image that turns out unreadable under `on_error="skip"`: in training the next readable
            one takes its place, otherwise its sample is None.
        on_error: Whether missing and unreadable files raise, or are left out, counted and logged.

    Attributes:
        image_ids: (N,) the id of each image.

    Raises:
        InputError: If a file is missing, none is left, or all the masks that are looked at know 0 and 255 alone though
            255 is not listed.
    """

    def __init__(
        self,
        root: Path,
        pairs: Mapping[int, Pair],
        class_names: tuple[str, ...],
        labels: Mapping[int, int],
        source: Path,
        transform: SegmentationTransform | None = None,
        *,
        train: bool = False,
        on_error: OnError = "raise",
    ) -> None:
        super().__init__(class_names, root, transform, train=train, on_error=on_error)
        found = _find(root, pairs, Problems(source, on_error, "images"))
        self.image_ids = np.array(list(found), dtype=np.int64)
        # Arrays of bytes for the same reason as in ImageFolder.
        self._files = np.array([os.fsencode(pair.image) for pair in found.values()])
        self._masks = np.array([os.fsencode(pair.mask) for pair in found.values()])
        self._labels = np.full(256, _UNKNOWN, dtype=np.int16)
        self._labels[IGNORED] = IGNORED
        for value, label in labels.items():
            self._labels[value] = label
        if IGNORED not in labels:
            self._refuse_binary_masks()

    def file(self, index: int) -> Path:
        """Return the file of an image."""
        return self.images / os.fsdecode(self._files[index])

    def mask_file(self, index: int) -> Path:
        """Return the file of an image's mask."""
        return self.images / os.fsdecode(self._masks[index])

    def read(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """See `SegmentationDataset.read`."""
        file, mask_file = self.file(index), self.mask_file(index)
        mask = self._to_labels(read_mask(mask_file), mask_file)
        image = read_image(file)
        if image.shape[:2] != mask.shape:
            try:
                image = read_image(file, (mask.shape[0], mask.shape[1]))  # drawn on an image that EXIF turns, as stored
            except InputError:
                raise InputError(
                    f"{mask_file}: the mask is {_shown(mask)}, its image {file} is {_shown(image)} (width x height);"
                    " draw it on the image as it is, or resize it without interpolation"
                ) from None
        return image, mask

    def _to_labels(self, values: NDArray[np.uint8], file: Path) -> NDArray[np.uint8]:
        labels = self._labels[values]
        if (labels == _UNKNOWN).any():
            unknown = np.unique(values[labels == _UNKNOWN]).tolist()
            known = np.flatnonzero(self._labels[:IGNORED] != _UNKNOWN)
            raise InputError(
                f"{file}: has the value{'s' if len(unknown) > 1 else ''} {_abbreviate(unknown)}, but the"
                f" {len(self.class_names)} classes have {_abbreviate(known.tolist())}, and 255 does not count; correct"
                " the mask or the list of classes"
            )
        return labels.astype(np.uint8)

    def _refuse_binary_masks(self) -> None:
        """Catch masks drawn in black and white, whose white would not count and leave nothing but background."""
        values: set[int] = set()
        for index in np.linspace(0, len(self) - 1, min(len(self), _CHECKED)).astype(int):
            try:
                values.update(np.unique(read_mask(self.mask_file(index))).tolist())
            except InputError:  # reported when its turn comes
                continue
        if values == {0, IGNORED} and len(self.class_names) > 1:
            raise InputError(
                f"{self.mask_file(0)}: this mask and others know the values 0 and 255 alone, and 255 does not count;"
                " where white is a class, save it as 1 instead of 255; where it is not, list 255 in a plain"
                " folder's data.ignore"
            )


def read_mask(path: Path) -> NDArray[np.uint8]:
    """Read a mask file as its gray values or palette indices, without looking at the palette.

    Returns:
        (H, W); a picture of 1 bit has the values 0 and 1.

    Raises:
        InputError: If the file is missing, unreadable, or in colour.
    """
    try:
        with Image.open(path) as file:
            mode, values = file.mode, np.asarray(file)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such mask; copy it there") from None
    except Exception as error:  # Pillow's decoders raise almost anything, see mbdet.runtime.image
        raise InputError(f"{path}: cannot be read as a mask ({error}); replace the file") from error
    if values.ndim != 2:
        raise InputError(
            f"{path}: the mask is a picture in colour ({mode}), not of classes; save one value per pixel, gray or"
            " palette, with the number of its class: look each colour up in the data set's list"
        )
    if values.max(initial=0) > 255 or values.min(initial=0) < 0:
        raise InputError(f"{path}: has values outside of 0 to 255 ({mode}); save the mask with 8 bits per pixel")
    return values.astype(np.uint8)


def _find(root: Path, pairs: Mapping[int, Pair], problems: Problems) -> dict[int, Pair]:
    """Keep the pairs of which both files exist."""
    found = dict(pairs)
    for what, number in (("images", 0), ("masks", 1)):
        present = list_files(root, [pair[number] for pair in found.values()])
        missing = [image_id for image_id, pair in found.items() if pair[number] not in present]
        if missing:
            problems.add(
                f"{len(missing)} of {len(found)} {what} are missing in {root}, first {found[missing[0]][number]}",
                "copy them there",
                len(missing),
            )
        for image_id in missing:
            del found[image_id]
    problems.log()
    if not found:
        raise InputError(f"{root}: none of the {len(pairs)} images of {problems.source} can be used; copy them there")
    return found


def _shown(pixels: NDArray[np.uint8]) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"


def _abbreviate(values: list[int]) -> str:
    """Name some values; three or more that follow each other as a range."""
    if len(values) > 2 and values[-1] - values[0] == len(values) - 1:
        return f"{values[0]} to {values[-1]}"
    return ", ".join(map(str, values[:10])) + (", ..." if len(values) > 10 else "")
