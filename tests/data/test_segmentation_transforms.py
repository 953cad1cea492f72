"""Scaling, cropping and padding of images with their masks."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from mbdet.data.segmentation_transforms import (
    SegmentationAugmentation,
    SegmentationEvalTransform,
    SegmentationTrainTransform,
)
from mbdet.errors import InputError
from mbdet.runtime.image import MEAN_COLOUR, Resizing, place, placed_size, resize


def coordinates(height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a picture of its own rows and columns, and a mask of the same rows."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.uint8)
    return np.stack([rows, columns, np.full_like(rows, 200)], axis=2), rows


@pytest.mark.parametrize("resizing", ["stretch", "fit", "pad"])
def test_evaluation_shows_the_image_where_placed_size_says(resizing: Resizing) -> None:
    image, mask = coordinates(40, 60)
    mask[:5] = 255
    placed, classes = SegmentationEvalTransform((48, 90), resizing)(image, mask)
    assert placed.shape == (48, 90, 3)
    assert classes.shape == (48, 90)
    height, width = placed_size((40, 60), (48, 90), resizing)
    np.testing.assert_array_equal(placed, place(image, (48, 90), resizing))
    np.testing.assert_array_equal(placed[:height, :width], resize(image, (height, width)))
    assert (placed[height:] == MEAN_COLOUR).all()
    assert (placed[:, width:] == MEAN_COLOUR).all()
    assert (classes[height:] == 255).all()
    assert (classes[:, width:] == 255).all()
    nearest = mask[((np.arange(height) + 0.5) * 40 / height).astype(int)][:, :1]
    np.testing.assert_array_equal(classes[:height, :width], np.broadcast_to(nearest, (height, width)))


def test_training_crops_keep_the_aspect_and_stay_within_the_scales() -> None:
    image, mask = coordinates(120, 160)
    transform = SegmentationTrainTransform(
        (96, 96), augmentation=SegmentationAugmentation(0.5, 2.0, flip=0.5, photometric=0.0)
    )
    torch.manual_seed(0)
    scales, flips, corners = [], [], set()
    for _ in range(150):
        crop, classes = transform(image, mask)
        assert (crop.shape, classes.shape) == ((96, 96, 3), (96, 96))
        assert crop.dtype == classes.dtype == np.uint8
        shown = classes != 255
        assert ((crop[..., 2] == 200) == shown).all()  # the padding is where the mask says
        assert (crop[~shown] == MEAN_COLOUR).all()
        rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
        assert shown[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        inner = crop[rows[2] : rows[-2], columns[2] : columns[-2]].astype(float)
        # Mask and image agree; bilinear and nearest differ by less than a pixel of the original.
        difference = np.abs(classes[rows[2] : rows[-2], columns[2] : columns[-2]] - inner[..., 0])
        assert difference.max() < 1.6
        step_y = (inner[-1, :, 0].mean() - inner[0, :, 0].mean()) / (len(inner) - 1)
        step_x = (inner[:, -1, 1].mean() - inner[:, 0, 1].mean()) / (inner.shape[1] - 1)
        assert abs(abs(step_x) / step_y - 1) < 0.05
        scales.append((160 / 96) / step_y)  # 1 shows the longer side whole
        flips.append(step_x < 0)
        corners.add((int(rows[0]), int(columns[0]), int(crop[rows[0], columns[0], 0])))
    assert 0.48 < min(scales) < 0.6
    assert 1.8 < max(scales) < 2.1
    assert 45 < sum(flips) < 105
    assert len(corners) > 75


def test_without_padding_a_small_image_is_not_made_larger() -> None:
    image, mask = coordinates(30, 40)
    still = SegmentationAugmentation(1.0, 1.0, flip=0.0, photometric=0.0)
    torch.manual_seed(0)
    crop, classes = SegmentationTrainTransform((48, 64), "pad", still)(image, mask)
    assert (classes != 255).sum() == 30 * 40
    assert (crop[..., 2] == 200).sum() == 30 * 40
    crop, classes = SegmentationTrainTransform((48, 64), "fit", still)(image, mask)
    np.testing.assert_array_equal(crop, resize(image, (48, 64)))
    assert (classes != 255).all()


@pytest.mark.parametrize("size", [(1, 400), (400, 1), (1, 1), (700, 900)])
def test_images_of_any_size(size: tuple[int, int]) -> None:
    image = np.zeros((*size, 3), np.uint8)
    mask = np.full(size, 3, np.uint8)
    torch.manual_seed(0)
    transform = SegmentationTrainTransform((32, 48))
    for _ in range(20):
        crop, classes = transform(image, mask)
        assert crop.shape == (32, 48, 3)
        assert set(np.unique(classes)) <= {3, 255}
        assert (classes == 3).any()


def test_masks_keep_their_values_whatever_the_scale() -> None:
    rng = np.random.default_rng(0)
    mask = rng.choice(np.array([0, 4, 20, 255], np.uint8), (50, 70))
    transform = SegmentationTrainTransform((40, 40))
    torch.manual_seed(1)
    for _ in range(30):
        assert set(np.unique(transform(np.zeros((50, 70, 3), np.uint8), mask)[1])) <= {0, 4, 20, 255}


def test_colours_are_distorted_only_if_asked() -> None:
    image, mask = np.full((40, 40, 3), (200, 100, 50), np.uint8), np.zeros((40, 40), np.uint8)
    torch.manual_seed(0)
    still = SegmentationTrainTransform((16, 16), augmentation=SegmentationAugmentation(1, 1, photometric=0.0))
    np.testing.assert_array_equal(still(image, mask)[0], image[:16, :16])
    distorted = SegmentationTrainTransform((16, 16), augmentation=SegmentationAugmentation(1, 1, photometric=1.0))
    assert len({tuple(distorted(image, mask)[0][0, 0]) for _ in range(20)}) > 10


class Repeated(Dataset[NDArray[np.uint8]]):
    """One picture, augmented anew each time."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        return SegmentationTrainTransform((16, 16))(*coordinates(40, 40))[1]


def test_workers_augment_differently() -> None:
    torch.manual_seed(0)
    one, other = DataLoader(Repeated(), batch_size=None, num_workers=2)
    assert (np.asarray(one) != np.asarray(other)).any()


@pytest.mark.parametrize(
    "options", [{"min_scale": 0}, {"min_scale": 3}, {"max_scale": 0.1}, {"flip": 2}, {"photometric": -1}]
)
def test_strengths_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(options))} "):
        SegmentationAugmentation(**options)
