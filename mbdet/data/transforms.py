"""Augmentation and resizing of images with their boxes and masks, as albumentations pipelines.

Boxes are xyxy pixels, before and after. Every transform here also carries `mask` targets, nearest neighbour.
"""

import random
from dataclasses import dataclass
from typing import Any, TypeAlias

import albumentations as A  # type: ignore[import-untyped]  # it ships no py.typed
import cv2
import numpy as np
import torch
from albumentations.augmentations.crops.transforms import BaseCrop  # type: ignore[import-untyped]  # likewise
from numpy.typing import NDArray
from torch.utils.data import get_worker_info

from mbdet.errors import InputError
from mbdet.runtime.image import MEAN_COLOUR, resize
from mbdet.runtime.types import IGNORED

Transform: TypeAlias = A.Compose


@dataclass(frozen=True)
class Augmentation:
    """How strongly to augment: the SSD paper's settings (section 2.2, and the expansion of 3.6). 0 turns a part off.

    Args:
        photometric: Probability of distorting brightness, contrast, saturation and hue.
        zoom_out: Probability of placing the image on a larger canvas.
        zoom_out_ratio: Largest side of that canvas, in sides of the image.
        crop: Probability of the random crop (which leaves the image whole in one of its seven cases).
        flip: Probability of a horizontal flip.

    Raises:
        InputError: If a probability is outside [0, 1] or the ratio is less than 1.
    """

    photometric: float = 0.5
    zoom_out: float = 0.5
    zoom_out_ratio: float = 4.0
    crop: float = 1.0
    flip: float = 0.5

    def __post_init__(self) -> None:
        for name in ("photometric", "zoom_out", "crop", "flip"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"augmentation.{name} is {getattr(self, name)}; give a probability from 0 to 1")
        if not self.zoom_out_ratio >= 1:
            raise InputError(f"augmentation.zoom_out_ratio is {self.zoom_out_ratio}; give a number from 1 up")


SSD_AUGMENTATION = Augmentation()


def train_transform(size: tuple[int, int], augmentation: Augmentation = SSD_AUGMENTATION) -> Transform:
    """SSD's training augmentation, ending at the network input: colours, zoom-out, crop, flip, resize.

    Colours come first so that the canvas keeps the mean colour; the crop comes after the zoom-out so that it sees small
    objects too. Boxes that end up thinner than 1 pixel of the network input are dropped: no anchor can learn them.

    Args:
        size: Height and width of the network input.
        augmentation: The strengths.

    Returns:
        A pipeline over `image`, `bboxes` with `labels`, and `mask` where given.
    """
    steps = [
        photometric_distortion(augmentation.photometric),
        ZoomOut(augmentation.zoom_out_ratio, p=augmentation.zoom_out),
        SSDRandomCrop(p=augmentation.crop),
        A.HorizontalFlip(p=augmentation.flip),
        Resize(*size),
    ]
    return _compose(steps, min_side=1)


def photometric_distortion(p: float) -> A.ColorJitter:
    """Distort brightness, contrast, saturation and hue, with probability `p`.

    Source: the ranges of SSD's data layer, written as factors (torchvision's RandomPhotometricDistort).
    """
    return A.ColorJitter(brightness=(0.875, 1.125), contrast=(0.5, 1.5), saturation=(0.5, 1.5), hue=(-0.05, 0.05), p=p)


def eval_transform(size: tuple[int, int]) -> Transform:
    """Resize to the network input, with every box kept.

    Args:
        size: Height and width of the network input.

    Returns:
        A pipeline over `image`, `bboxes` with `labels`, and `mask` where given.
    """
    return _compose([Resize(*size)], min_side=0)


def transform_boxes(
    transform: Transform, image: NDArray[np.uint8], boxes: NDArray[np.float32], labels: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]:
    """Run a pipeline over one detection sample, with randomness from torch.

    Args:
        transform: A pipeline with boxes in the `pascal_voc` format and their classes in `labels`.
        image: Pixels (H, W, 3), RGB.
        boxes: (M, 4) xyxy pixels, within the image.
        labels: (M,) classes.

    Returns:
        The same three after the transform, boxes in pixels of the new image; boxes that it dropped are gone.
    """
    result = run(transform, image=image, bboxes=boxes, labels=labels)
    return result["image"], *_objects_of(result)


def transform_boxes_and_mask(
    transform: Transform,
    image: NDArray[np.uint8],
    boxes: NDArray[np.float32],
    labels: NDArray[np.int64],
    mask: NDArray[np.uint8],
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64], NDArray[np.uint8]]:
    """Do as `transform_boxes`, and the same to the mask (H, W) of the image."""
    result = run(transform, image=image, bboxes=boxes, labels=labels, mask=mask)
    return result["image"], *_objects_of(result), result["mask"]


def run(transform: Transform, **targets: Any) -> dict[str, Any]:
    """Run a pipeline over its targets, with randomness from torch."""
    if get_worker_info() is not None:
        cv2.setNumThreads(0)  # otherwise every worker starts a thread per core, and they get in each other's way
    reseed(transform)
    result: dict[str, Any] = transform(**targets)
    return result


def reseed(transform: Transform) -> None:
    """Draw a pipeline's next random decisions from torch's generator, which every DataLoader worker seeds for itself.

    albumentations has generators of its own, which workers inherit as copies, so that they would all decide alike.
    `Compose.set_random_seed` will not do: it seeds each transform alike, so that flip and zoom-out always coincide.
    """
    seed = int(torch.randint(2**63 - 1, ()))
    transform.set_random_state(np.random.default_rng(seed), random.Random(seed))


class Resize(A.Resize):  # type: ignore[misc]  # untyped base
    """Resize images as the device does (`mbdet.runtime.image.resize`), masks to the nearest pixel."""

    def __init__(self, height: int, width: int, p: float = 1.0) -> None:
        # INTER_NEAREST takes the pixel left of and above the centre, which shifts masks against boxes; _EXACT does not.
        super().__init__(height, width, mask_interpolation=cv2.INTER_NEAREST_EXACT, p=p)

    def apply(self, img: NDArray[np.uint8], **params: Any) -> NDArray[np.uint8]:
        """Resize the image."""
        return resize(img, (self.height, self.width))


class ZoomOut(A.Pad):  # type: ignore[misc]  # untyped base
    """Place the image anywhere on a canvas of the same shape, up to `max_ratio` times its sides.

    Source: SSD (Liu et al. 2016), section 3.6.

    Args:
        max_ratio: Largest side of the canvas, in sides of the image; the ratio is uniform from 1 to it.
        fill: Colour of the canvas, RGB; ImageNet's mean. Masks get 255 there.
        p: Probability.
    """

    def __init__(self, max_ratio: float = 4.0, fill: tuple[float, float, float] = MEAN_COLOUR, p: float = 0.5) -> None:
        super().__init__(fill=fill, fill_mask=IGNORED, p=p)
        self.max_ratio = max_ratio

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, int]:
        """Draw the canvas and the image's place on it."""
        height, width = params["shape"][:2]
        ratio = self.py_random.uniform(1, self.max_ratio) - 1
        pad_y, pad_x = int(height * ratio), int(width * ratio)
        top, left = self.py_random.randint(0, pad_y), self.py_random.randint(0, pad_x)
        return {"pad_top": top, "pad_bottom": pad_y - top, "pad_left": left, "pad_right": pad_x - left}


class SSDRandomCrop(BaseCrop):  # type: ignore[misc]  # untyped base
    """Crop by one of seven options, each as likely: the whole image, a minimum IoU with some object, or anything.

    A patch has 0.1 to 1 of the image's area and 1/2 to 2 times its aspect ratio. A box stays if its centre is inside
    the patch, and is clipped to it. A patch that keeps no box is drawn again, unless the image has none; after 50
    draws the image stays whole.

    Source: SSD (Liu et al. 2016), section 2.2, data augmentation; aspect ratios are relative to the image's and limited
    so that the patch fits, as in the authors' sampler.cpp.
    """

    _OPTIONS = (None, 0.1, 0.3, 0.5, 0.7, 0.9, 0.0)  # minimum IoU; None is the whole image
    _TRIALS = 50

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw the patch, in whole pixels xyxy."""
        height, width = params["shape"][:2]
        whole = {"crop_coords": (0, 0, width, height)}
        min_iou = self.py_random.choice(self._OPTIONS)
        if min_iou is None:
            return whole
        patches = self._draw_patches(height, width)
        boxes = np.asarray(data.get("bboxes", ()), dtype=np.float64)
        if boxes.size == 0:
            return {"crop_coords": tuple(patches[0].tolist())}
        boxes = boxes[:, :4] * (width, height, width, height)
        good = _centre_inside(boxes, patches).any(axis=1) & (_iou(boxes, patches) >= min_iou).any(axis=1)
        return {"crop_coords": tuple(patches[good.argmax()].tolist())} if good.any() else whole

    def apply_to_bboxes(
        self, bboxes: NDArray[np.float64], crop_coords: tuple[int, int, int, int], **params: Any
    ) -> NDArray[np.float64]:
        """Keep the boxes whose centre is inside, relative to the patch and clipped to it."""
        height, width = params["shape"][:2]
        inside = _centre_inside(bboxes[:, :4] * (width, height, width, height), np.array([crop_coords]))[0]
        kept = super().apply_to_bboxes(bboxes[inside], crop_coords, **params)
        kept[:, :4] = kept[:, :4].clip(0, 1)
        return np.asarray(kept)

    def _draw_patches(self, height: int, width: int) -> NDArray[np.int64]:
        """Draw all trials at once, (50, 4) xyxy pixels: one by one they would cost more than decoding the image."""
        area = self.random_generator.uniform(0.1, 1, self._TRIALS)
        low, high = np.log(np.maximum(0.5, area)), np.log(np.minimum(2, 1 / area))
        aspect = np.exp(self.random_generator.uniform(low, high))
        patch_w = np.rint(width * np.sqrt(area * aspect)).astype(np.int64).clip(1, width)
        patch_h = np.rint(height * np.sqrt(area / aspect)).astype(np.int64).clip(1, height)
        left = self.random_generator.integers(0, width - patch_w, endpoint=True)
        top = self.random_generator.integers(0, height - patch_h, endpoint=True)
        return np.stack([left, top, left + patch_w, top + patch_h], axis=1)


def resize_mask(mask: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize classes (H, W) to the nearest pixel, as `Resize` does."""
    resized = cv2.resize(np.ascontiguousarray(mask), (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(resized, dtype=np.uint8)


def _objects_of(result: dict[str, Any]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    # Of no boxes albumentations makes lists and empty arrays of any shape and type.
    boxes = np.asarray(result["bboxes"], dtype=np.float32).reshape(-1, 4)
    return boxes, np.asarray(result["labels"], dtype=np.int64)


def _compose(steps: list[A.BasicTransform], min_side: float) -> Transform:
    # Boxes are checked once, at the end: min_side is in pixels of the network input, not of the steps before it.
    boxes = A.BboxParams(
        "pascal_voc", label_fields=["labels"], min_width=min_side, min_height=min_side, check_each_transform=False
    )
    return A.Compose(steps, bbox_params=boxes)


def _centre_inside(boxes: NDArray[np.float64], patches: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which boxes (N, 4) have their centre inside which patches (P, 4); both xyxy pixels. Returns (P, N)."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = (centres > patches[:, None, :2]) & (centres < patches[:, None, 2:])
    return np.asarray(inside.all(axis=2))


def _iou(boxes: NDArray[np.float64], patches: NDArray[np.int64]) -> NDArray[np.float64]:
    """IoU of patches (P, 4) with boxes (N, 4); both xyxy pixels. Returns (P, N)."""
    top_left = np.maximum(boxes[:, :2], patches[:, None, :2])
    bottom_right = np.minimum(boxes[:, 2:], patches[:, None, 2:])
    overlap = (bottom_right - top_left).clip(0).prod(axis=2)
    box_area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    patch_area = (patches[:, 2:] - patches[:, :2]).prod(axis=1)
    return np.asarray(overlap / (box_area + patch_area[:, None] - overlap))
