"""Detection data sets in COCO's layout: an `instances_*.json` and a folder of images."""

import json
import logging
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from mbdet.data.coco_records import ObjectRecord, OnError, read_records
from mbdet.data.masks import decode_segmentation
from mbdet.data.transforms import Transform, transform_boxes
from mbdet.errors import InputError
from mbdet.runtime.image import read_image

logger = logging.getLogger(__name__)


class DetectionSample(NamedTuple):
    """One image with its objects."""

    image: NDArray[np.uint8]  # (H, W, 3) RGB
    boxes: NDArray[np.float32]  # (M, 4) xyxy pixels of `image`
    labels: NDArray[np.int64]  # (M,) 0..K-1
    image_id: int
    size: tuple[int, int]  # height and width of the original image


class CocoDetection(Dataset[DetectionSample | None]):
    """Images and boxes of a COCO annotation file. Crowds are no training targets and stay out.

    Args:
        annotations: The `instances_*.json`.
        images: Folder that its file names are relative to.
        transform: What every sample goes through; None leaves image and boxes as they are.
        train: What becomes of an image that turns out unreadable under `on_error="skip"`: in training the next readable
            one takes its place, otherwise its sample is None.
        on_error: Whether bad boxes and missing images raise, or are left out, counted and logged.
        masks: Whether to keep the segmentations for `instance_masks`; they are most of the file.

    Attributes:
        category_ids: The file's category ids, ascending; label k means `category_ids[k]`.
        class_names: Their names, in the same order.
        image_ids: (N,) the file's id of each image.
        max_objects: Largest number of objects in any image, at least 1.

    Raises:
        InputError: If the file or a record cannot be used. File names that are not below the image folder raise under
            "skip" too.
    """

    def __init__(
        self,
        annotations: Path,
        images: Path,
        transform: Transform | None = None,
        *,
        train: bool = False,
        on_error: OnError = "raise",
        masks: bool = False,
    ) -> None:
        self.annotations, self.images, self.transform = annotations, images, transform
        self.train, self.on_error = train, on_error
        records = read_records(annotations, images, on_error)
        self.category_ids, self.class_names = records.category_ids, records.class_names
        # Flat arrays instead of objects: reading a Python object writes its reference count, which in time copies the
        # whole data set into every DataLoader worker.
        self.image_ids = np.array([image.image_id for image in records.images], dtype=np.int64)
        self._files = np.array([image.file for image in records.images])
        self._sizes = np.array([image.size for image in records.images], dtype=np.int64)
        self._boxes = np.array([object_.box for object_ in records.objects], dtype=np.float32).reshape(-1, 4)
        self._labels = np.array([object_.label for object_ in records.objects], dtype=np.int64)
        # Objects _starts[i] up to _starts[i + 1] belong to image i.
        self._starts = np.searchsorted([object_.image for object_ in records.objects], np.arange(len(self) + 1))
        self.max_objects = max(1, int(np.diff(self._starts).max()))
        self._segmentations = _Segmentations(records.objects) if masks else None
        self._unreadable: set[int] = set()

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> DetectionSample | None:
        """Read and transform one sample.

        Returns:
            The sample; None for an unreadable image that is skipped in evaluation.

        Raises:
            InputError: If the image is unreadable and `on_error` is "raise", or if no image is readable.
        """
        first = range(len(self))[index]
        for candidate in chain(range(first, len(self)), range(first)):
            try:
                return self._load(candidate)
            except InputError as error:
                if self.on_error == "raise":
                    raise
                self._log_unreadable(candidate, error)
            if not self.train:
                return None
        raise InputError(f"{self.images}: none of the {len(self)} images can be read; replace them")

    def instance_masks(self, index: int) -> NDArray[np.bool_]:
        """Decode the masks of one image's objects, in the order of its targets before the transform.

        Returns:
            (M, H, W), in pixels of the original image.

        Raises:
            InputError: If a segmentation is malformed, or if the data set was made without `masks=True`.
        """
        if self._segmentations is None:
            raise InputError(f"{self.annotations}: the segmentations were not kept; make the data set with masks=True")
        index = range(len(self))[index]
        start, end = self._starts[index : index + 2].tolist()
        height, width = self._sizes[index].tolist()
        masks = np.zeros((end - start, height, width), dtype=np.bool_)
        for position, mask in zip(range(start, end), masks, strict=True):
            annotation_id, segmentation = self._segmentations[position]
            try:
                mask[:] = decode_segmentation(segmentation, height, width)
            except InputError as error:
                image_id = self.image_ids[index]
                raise InputError(
                    f"{self.annotations}: annotation {annotation_id} (image {image_id}): {error}"
                ) from None
        return masks

    def _load(self, index: int) -> DetectionSample:
        image_id, (height, width) = int(self.image_ids[index]), self._sizes[index].tolist()
        try:
            image = read_image(self.images / str(self._files[index]), (height, width))
        except InputError as error:
            raise InputError(f"{error} (image {image_id} of {self.annotations})") from error
        objects = slice(self._starts[index], self._starts[index + 1])
        boxes, labels = self._boxes[objects].copy(), self._labels[objects].copy()
        if self.transform is not None:
            image, boxes, labels = transform_boxes(self.transform, image, boxes, labels)
        return DetectionSample(image, boxes, labels, image_id, (height, width))

    def _log_unreadable(self, index: int, error: InputError) -> None:
        if index not in self._unreadable:
            self._unreadable.add(index)
            logger.warning("%s; skipped, the %d. unreadable image", error, len(self._unreadable))


class _Segmentations:
    """Annotation id and segmentation of each object, packed into one string for the same reason as the arrays."""

    def __init__(self, objects: list[ObjectRecord]) -> None:
        packed = [json.dumps([object_.annotation_id, object_.segmentation]).encode() for object_ in objects]
        self._packed = b"".join(packed)
        self._ends = np.cumsum([0, *map(len, packed)])

    def __getitem__(self, position: int) -> tuple[object, object]:
        start, end = self._ends[position : position + 2]
        annotation_id, segmentation = json.loads(self._packed[start:end])
        return annotation_id, segmentation
