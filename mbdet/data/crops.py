"""What an image goes through before it is classified, in training and in evaluation."""

from dataclasses import dataclass
from typing import Any

import albumentations as A  # type: ignore[import-untyped]  # it ships no py.typed
import numpy as np
from numpy.typing import NDArray

from mbdet.data.transforms import run
from mbdet.errors import InputError
from mbdet.runtime.image import central_crop, resize


@dataclass(frozen=True)
class CropAugmentation:
    """How strongly to augment: Inception's settings (slim's inception_preprocessing.py). 0 turns a probability off.

    Args:
        min_area: Smallest part of the image's area that the random crop keeps; 1 keeps the whole image wherever its
            aspect is within the limit.
        max_aspect: Largest aspect ratio of the crop, either way.
        flip: Probability of a horizontal flip.
        photometric: Probability of distorting brightness, contrast, saturation and hue.

    Raises:
        InputError: If a number is out of range.
    """

    min_area: float = 0.08
    max_aspect: float = 4 / 3
    flip: float = 0.5
    photometric: float = 1.0

    def __post_init__(self) -> None:
        for name in ("flip", "photometric"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"augmentation.{name} is {getattr(self, name)}; give a probability from 0 to 1")
        if not 0 < self.min_area <= 1:
            raise InputError(f"augmentation.min_area is {self.min_area}; give a part above 0 and at most 1")
        if not self.max_aspect >= 1:
            raise InputError(f"augmentation.max_aspect is {self.max_aspect}; give a number from 1 up")


INCEPTION_AUGMENTATION = CropAugmentation()


class TrainTransform:
    """Random crop, stretched to the network input, flip, colours.

    Args:
        size: Height and width of the network input.
        augmentation: The strengths.
    """

    def __init__(self, size: tuple[int, int], augmentation: CropAugmentation = INCEPTION_AUGMENTATION) -> None:
        aspects = (1 / augmentation.max_aspect, augmentation.max_aspect)
        self._pipeline = A.Compose(
            [
                RandomResizedCrop(size, scale=(augmentation.min_area, 1.0), ratio=aspects),
                A.HorizontalFlip(p=augmentation.flip),
                # slim's ranges, as factors: there brightness moves by 32 of 255.
                A.ColorJitter(
                    brightness=(0.875, 1.125),
                    contrast=(0.5, 1.5),
                    saturation=(0.5, 1.5),
                    hue=(-0.2, 0.2),
                    p=augmentation.photometric,
                ),
            ]
        )

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Augment an image (H, W, 3), with randomness from torch."""
        augmented: NDArray[np.uint8] = run(self._pipeline, image=image)["image"]
        return augmented


class RandomResizedCrop(A.RandomResizedCrop):  # type: ignore[misc]  # untyped base
    """Crop at random and resize as the device does (`mbdet.runtime.image.resize`)."""

    def apply(self, img: NDArray[np.uint8], crop_coords: tuple[int, int, int, int], **params: Any) -> NDArray[np.uint8]:
        """Crop to xyxy pixels and resize."""
        left, top, right, bottom = crop_coords
        return resize(img[top:bottom, left:right], self.size)


@dataclass(frozen=True)
class EvalTransform:
    """Central crop, stretched to the network input, as the device does.

    Args:
        size: Height and width of the network input.
        crop: Side of the crop, in sides of the image.
    """

    size: tuple[int, int]
    crop: float

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Prepare an image (H, W, 3)."""
        return resize(central_crop(image, self.crop), self.size)
