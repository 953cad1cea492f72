"""Segmentation data modules: batches, the evaluation, and real data."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mbdet.data import FolderSegmentationDataModule, ShapesSegmentationDataModule
from mbdet.data.mask_files import read_mask
from mbdet.data.segmentation import collate
from mbdet.data.shapes import CLASS_NAMES
from mbdet.errors import InputError
from mbdet.metrics.segmentation import confusion_matrix
from mbdet.runtime.image import place

CAMVID = ["sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"]


@pytest.fixture
def data(shapes: Path) -> ShapesSegmentationDataModule:
    data = ShapesSegmentationDataModule(str(shapes), (48, 64), num_train=8, num_val=5, batch_size=3, num_workers=0)
    data.prepare_data()
    data.setup("fit")
    return data


def test_training_batches(data: ShapesSegmentationDataModule) -> None:
    batches = list(data.train_dataloader())
    assert len(batches) == 2  # the last two images make no batch of their own
    for batch in batches:
        assert batch.images.shape == (3, 3, 48, 64)
        assert batch.images.dtype == batch.masks.dtype == torch.uint8
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert batch.masks.shape == (3, 48, 64)
        assert batch.original_masks == []
        assert set(batch.masks.unique().tolist()) <= {*range(7), 255}
    assert data.class_names == ("background", *CLASS_NAMES)


def test_no_batch_of_one_reaches_the_training(shapes: Path) -> None:
    data = ShapesSegmentationDataModule(str(shapes), (48, 64), num_train=8, num_val=5, batch_size=7, num_workers=0)
    data.setup("fit")
    assert [len(batch.images) for batch in data.train_dataloader()] == [7]


def test_validation_batches(data: ShapesSegmentationDataModule, shapes: Path) -> None:
    first, second = data.val_dataloader()
    assert torch.cat([first.image_ids, second.image_ids]).tolist() == list(range(5))
    stems = (shapes / "VOC" / "ImageSets" / "Segmentation" / "val.txt").read_text().split()
    for row, (stem, original) in enumerate(zip(stems[:3], first.original_masks, strict=True)):
        np.testing.assert_array_equal(original, read_mask(shapes / "VOC" / "SegmentationClass" / f"{stem}.png"))
        assert tuple(first.sizes[row].tolist()) == original.shape
        image = np.asarray(Image.open(shapes / "VOC" / "JPEGImages" / f"{stem}.jpg"))
        np.testing.assert_array_equal(first.images[row].permute(1, 2, 0), place(image, (48, 64), "stretch"))
    assert len(second.original_masks) == 2


def test_workers_load_the_same(data: ShapesSegmentationDataModule, shapes: Path) -> None:
    other = ShapesSegmentationDataModule(str(shapes), (48, 64), num_train=8, num_val=5, batch_size=3, num_workers=2)
    other.setup("validate")
    for one, two in zip(data.val_dataloader(), other.val_dataloader(), strict=True):
        assert torch.equal(one.images, two.images)
        assert torch.equal(one.masks, two.masks)
        for mask, same in zip(one.original_masks, two.original_masks, strict=True):
            np.testing.assert_array_equal(mask, same)


def test_the_truth_scores_one(data: ShapesSegmentationDataModule, shapes: Path) -> None:
    evaluator = data.evaluator()
    for batch in data.val_dataloader():
        for image_id, mask in zip(batch.image_ids.tolist(), batch.original_masks, strict=True):
            perfect = np.where(mask == 255, 0, mask)
            evaluator.update(image_id, confusion_matrix(mask, perfect, len(data.class_names)))
    metrics = evaluator.compute()
    assert metrics.mIoU == metrics.pixel_accuracy == metrics.fwIoU == 1
    assert evaluator.results()[0]["file"].startswith(str(shapes / "VOC" / "JPEGImages"))


def test_unreadable_images_make_smaller_batches() -> None:
    batch = collate([None, None], (8, 9), keep_originals=True)
    assert batch.images.shape == (0, 3, 8, 9)
    assert batch.masks.shape == (0, 8, 9)
    assert batch.sizes.shape == (0, 2)
    assert batch.original_masks == []


@pytest.mark.parametrize(("split", "count"), [("train", 367), ("val", 101)])
def test_camvid(real_data: Path, split: str, count: int) -> None:
    data = FolderSegmentationDataModule(
        str(real_data / "camvid"), (360, 480), CAMVID, ignore=[11], batch_size=2, num_workers=0
    )
    data.setup("fit")
    dataset = data.train_dataset if split == "train" else data.val_dataset
    assert len(dataset) == count
    histogram = np.zeros(256, np.int64)
    for index in range(0, count, 20):
        _, mask = dataset.read(index)
        assert mask.shape == (360, 480)
        histogram += np.bincount(mask.ravel(), minlength=256)
    parts = histogram / histogram.sum()
    assert histogram[11:255].sum() == 0
    assert (parts[: len(CAMVID)] > 0).all()
    # The usual scene: road, building and sky cover most of it, and few pixels are void.
    assert set(np.argsort(parts)[-4:].tolist()) & {0, 1, 3} == {0, 1, 3}
    assert 0.005 < parts[255] < 0.1
    batch = next(iter(data.train_dataloader() if split == "train" else data.val_dataloader()))
    assert batch.masks.shape == (2, 360, 480)


def test_camvid_without_its_void_is_refused(real_data: Path) -> None:
    data = FolderSegmentationDataModule(str(real_data / "camvid"), (360, 480), CAMVID, num_workers=0)
    data.setup("validate")
    with pytest.raises(InputError, match="has the value 11, but the 11 classes have 0 to 10"):
        data.val_dataset[0]
