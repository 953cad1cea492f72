"""Images with a class for every pixel."""

from abc import abstractmethod
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mbdet.data.base import ImageDataset
from mbdet.data.records import OnError
from mbdet.data.segmentation_transforms import SegmentationTransform


class SegmentationSample(NamedTuple):
    """One image with its mask."""

    image: NDArray[np.uint8]  # (H, W, 3) RGB
    mask: NDArray[np.uint8]  # (H, W) of the same pixels, 0..K-1 or 255 where a pixel does not count
    image_id: int
    size: tuple[int, int]  # height and width of the original image
    original_mask: NDArray[np.uint8]  # the mask before the transform, of that size


class SegmentationDataset(ImageDataset[SegmentationSample]):
    """Images and masks in any layout.

    Args:
        class_names: Names of the K classes by label, background among them where the data has one.
        images: Folder that the images' files are relative to.
        transform: What every sample goes through; None leaves image and mask as they are.
        train: What becomes of an image that turns out unreadable under `on_error="skip"`: in training the next readable
            one takes its place, otherwise its sample is None.
        on_error: Whether an unreadable image or mask raises, or is left out and logged.

    Attributes:
        image_ids: (N,) the id of each image.
    """

    image_ids: NDArray[np.int64]

    def __init__(
        self,
        class_names: tuple[str, ...],
        images: Path,
        transform: SegmentationTransform | None,
        *,
        train: bool,
        on_error: OnError,
    ) -> None:
        super().__init__(images, train=train, on_error=on_error)
        self.class_names, self.transform = class_names, transform

    def __len__(self) -> int:
        return len(self.image_ids)

    @abstractmethod
    def file(self, index: int) -> Path:
        """Return the file of an image."""

    @abstractmethod
    def read(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Read an image (H, W, 3) and its mask (H, W).

        Raises:
            InputError: If one of them is unreadable, or they do not fit together.
        """

    def load(self, index: int) -> SegmentationSample:
        """See `ImageDataset.load`."""
        image, original = self.read(index)
        size, mask = (image.shape[0], image.shape[1]), original
        if self.transform is not None:
            image, mask = self.transform(image, original)
        return SegmentationSample(image, mask, int(self.image_ids[index]), size, original)
