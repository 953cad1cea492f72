"""The data set behind every layout of detection data."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mbdet.data.base import ImageDataset
from mbdet.data.records import ImageRecord, ObjectRecord, OnError
from mbdet.data.transforms import Transform, transform_boxes
from mbdet.errors import InputError
from mbdet.runtime.image import read_image


class DetectionSample(NamedTuple):
    """One image with its objects."""

    image: NDArray[np.uint8]  # (H, W, 3) RGB
    boxes: NDArray[np.float32]  # (M, 4) xyxy pixels of `image`
    labels: NDArray[np.int64]  # (M,) 0..K-1
    image_id: int
    size: tuple[int, int]  # height and width of the original image


class DetectionDataset(ImageDataset[DetectionSample]):
    """Images and boxes, from the records that a reader has checked.

    Args:
        class_names: Names of the K classes by label.
        image_records: The images.
        objects: Their objects, image by image.
        source: What the records were read from, for messages.
        images: Folder that the images' files are relative to.
        transform: What every sample goes through; None leaves image and boxes as they are.
        train: What becomes of an image that turns out unreadable under `on_error="skip"`: in training the next readable
            one takes its place, otherwise its sample is None.
        on_error: Whether an unreadable image raises, or is left out and logged.
        difficult: Whether objects marked as difficult are targets too.

    Attributes:
        image_ids: (N,) the id of each image.
        max_objects: Largest number of targets in any image, at least 1.
    """

    def __init__(
        self,
        class_names: tuple[str, ...],
        image_records: Sequence[ImageRecord],
        objects: Sequence[ObjectRecord],
        source: Path,
        images: Path,
        transform: Transform | None,
        *,
        train: bool,
        on_error: OnError,
        difficult: bool = False,
    ) -> None:
        super().__init__(images, train=train, on_error=on_error)
        self.class_names = class_names
        self.source, self.transform = source, transform
        # Flat arrays instead of objects: reading a Python object writes its reference count, which in time copies the
        # whole data set into every DataLoader worker.
        self.image_ids = np.array([image.image_id for image in image_records], dtype=np.int64)
        self._files = np.array([image.file for image in image_records])
        self._sizes = np.array([image.size for image in image_records], dtype=np.int64)
        self._boxes = np.array([object_.box for object_ in objects], dtype=np.float32).reshape(-1, 4)
        self._labels = np.array([object_.label for object_ in objects], dtype=np.int64)
        self._difficult = np.array([object_.difficult for object_ in objects], dtype=np.bool_)
        self._is_target = ~self._difficult | difficult
        # Objects _starts[i] up to _starts[i + 1] belong to image i.
        owners = np.array([object_.image for object_ in objects], dtype=np.int64)
        self._starts = np.searchsorted(owners, np.arange(len(self) + 1))
        self.max_objects = max(1, int(np.bincount(owners[self._is_target], minlength=1).max()))

    def __len__(self) -> int:
        return len(self.image_ids)

    def file(self, index: int) -> Path:
        """Return the file of an image."""
        return self.images / str(self._files[index])

    def describe(self, index: int) -> str:
        """Say where an image is recorded, for messages."""
        return f"image {self.image_ids[index]} of {self.source}"

    def size(self, index: int) -> tuple[int, int]:
        """Return height and width of an image."""
        height, width = self._sizes[index].tolist()
        return height, width

    def targets(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return copies of the boxes (M, 4), xyxy pixels of the original image, and the labels (M,) of an image."""
        objects = slice(self._starts[index], self._starts[index + 1])
        kept = self._is_target[objects]
        return self._boxes[objects][kept], self._labels[objects][kept]

    def load(self, index: int) -> DetectionSample:
        """See `ImageDataset.load`."""
        size = self.size(index)
        try:
            image = read_image(self.file(index), size)
        except InputError as error:
            raise InputError(f"{error} ({self.describe(index)})") from error
        boxes, labels = self.targets(index)
        if self.transform is not None:
            image, boxes, labels = transform_boxes(self.transform, image, boxes, labels)
        return DetectionSample(image, boxes, labels, int(self.image_ids[index]), size)
