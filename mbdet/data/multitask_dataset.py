"""Images that have boxes and a class for every pixel."""

import logging
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mbdet.data.base import ImageDataset
from mbdet.data.detection_dataset import DetectionDataset
from mbdet.data.records import OnError, Problems
from mbdet.data.segmentation_dataset import SegmentationDataset
from mbdet.data.transforms import Transform, transform_boxes_and_mask
from mbdet.errors import InputError

logger = logging.getLogger(__name__)


class MultiTaskSample(NamedTuple):
    """One image with its objects and its mask."""

    image: NDArray[np.uint8]  # (H, W, 3) RGB
    boxes: NDArray[np.float32]  # (M, 4) xyxy pixels of `image`
    labels: NDArray[np.int64]  # (M,) 0..K-1
    mask: NDArray[np.uint8]  # (H, W) of the same pixels, 0..K-1 of its own classes or 255 where a pixel does not count
    image_id: int
    size: tuple[int, int]  # height and width of the original image
    original_mask: NDArray[np.uint8]  # the mask before the transform, of that size


class MultiTaskDataset(ImageDataset[MultiTaskSample]):
    """The images that are in a detection data set and in a segmentation data set, with what both know of them.

    Args:
        detection: Gives boxes and image ids; its own transform is not used.
        segmentation: Gives images and masks, and their order; likewise.
        transform: What every sample goes through; None leaves image, boxes and mask as they are.
        train: What becomes of an image that turns out unreadable under `on_error="skip"`: in training the next readable
            one takes its place, otherwise its sample is None.
        on_error: Whether a mask without boxes raises and an unreadable image or mask does, or they are left out.
        identify: What tells from its file which image it is: by default the file itself.

    Attributes:
        class_names: Names of the objects' classes by label.
        segment_names: Names of the pixels' classes by their value in the masks.
        image_ids: (N,) the detection data set's id of each image.
        max_objects: Largest number of objects in any image, at least 1.

    Raises:
        InputError: If no image is in both, two files of one of them are the same image, or an image with a mask has no
            record of its boxes, not even that it has none.
    """

    def __init__(
        self,
        detection: DetectionDataset,
        segmentation: SegmentationDataset,
        transform: Transform | None = None,
        *,
        train: bool = False,
        on_error: OnError = "raise",
        identify: Callable[[Path], Hashable] = lambda file: file,
    ) -> None:
        super().__init__(segmentation.images, train=train, on_error=on_error)
        self.detection, self.segmentation, self.transform = detection, segmentation, transform
        self.class_names, self.segment_names = detection.class_names, segmentation.class_names
        boxes_of, masks_of = _positions(detection, identify), _positions(segmentation, identify)
        missing = [position for image, position in masks_of.items() if image not in boxes_of]
        problems = Problems(detection.source, on_error, "images")
        if missing:
            problems.add(
                f"{len(missing)} of {len(masks_of)} images with masks are not in it, first"
                f" {segmentation.file(missing[0])}",
                "list them, with their boxes if they have objects",
                len(missing),
            )
        problems.log()
        pairs = [(boxes_of[image], position) for image, position in masks_of.items() if image in boxes_of]
        if not pairs:
            raise InputError(f"{detection.source}: lists none of the images in {segmentation.images} that have masks")
        logger.info("%s: %d of %d images have masks", detection.source, len(pairs), len(boxes_of))
        self._boxes, self._masks = np.array(pairs, dtype=np.int64).T
        self.image_ids = detection.image_ids[self._boxes]
        self.max_objects = detection.max_objects

    def __len__(self) -> int:
        return len(self.image_ids)

    def file(self, index: int) -> Path:
        """Return the file of an image."""
        return self.segmentation.file(int(self._masks[index]))

    def load(self, index: int) -> MultiTaskSample:
        """See `ImageDataset.load`."""
        position = int(self._boxes[index])
        image, original = self.segmentation.read(int(self._masks[index]))
        size, recorded = (image.shape[0], image.shape[1]), self.detection.size(position)
        if size != recorded:
            raise InputError(
                f"{self.file(index)}: its mask is of {size} pixels (height, width), but its boxes are of {recorded}"
                f" ({self.detection.describe(position)}); correct the record or the mask"
            )
        (boxes, labels), mask = self.detection.targets(position), original
        if self.transform is not None:
            image, boxes, labels, mask = transform_boxes_and_mask(self.transform, image, boxes, labels, original)
        return MultiTaskSample(image, boxes, labels, mask, int(self.image_ids[index]), size, original)


def _positions(
    dataset: DetectionDataset | SegmentationDataset, identify: Callable[[Path], Hashable]
) -> dict[Hashable, int]:
    """Position of each image by what identifies it."""
    positions: dict[Hashable, int] = {}
    for position in range(len(dataset)):
        image = identify(dataset.file(position))
        if image in positions:
            raise InputError(
                f"{dataset.file(position)}: is the same image as {dataset.file(positions[image])}; list it once, or"
                " give one of them another name"
            )
        positions[image] = position
    return positions
