"""Data for two heads: boxes and masks stay together, of one set or of two."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from mbdet.data import (
    CocoDataModule,
    CocoMultiTaskDataModule,
    ShapesMultiTaskDataModule,
    TwoSetsDataModule,
    VocMultiTaskDataModule,
    VocSegmentationDataModule,
)
from mbdet.data.multitask_dataset import MultiTaskDataset
from mbdet.data.shapes import CLASS_NAMES
from mbdet.data.transforms import Augmentation, transform_boxes_and_mask
from mbdet.errors import InputError
from mbdet.types import DetectionBatch, MultiTaskBatch, SegmentationBatch, TwoBatches

SIZE = (96, 128)
PIXELS = ("background", *CLASS_NAMES)


def extent(mask: NDArray[np.bool_]) -> list[int]:
    """Return the xyxy extent of the True in a mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


def coco(root: Path, **options: Any) -> CocoMultiTaskDataModule:
    data = CocoMultiTaskDataModule(str(root), SIZE, num_workers=0, **{"batch_size": 3, **options})
    data.setup("fit")
    return data


def test_boxes_are_the_extents_of_their_objects_in_the_mask(coco80: Path) -> None:
    data = coco(coco80)
    dataset = MultiTaskDataset(data.detection.train_dataset, data.segmentation.train_dataset)  # no transform
    checked = 0
    for sample in (dataset[index] for index in range(len(dataset))):
        assert sample is not None
        assert sample.mask is sample.original_mask
        assert sample.mask.shape == sample.image.shape[:2] == sample.size
        for (left, top, right, bottom), label in zip(sample.boxes.astype(int).tolist(), sample.labels, strict=True):
            seen = sample.mask[top:bottom, left:right] == label + 1
            assert extent(seen) == [0, 0, right - left, bottom - top]
            checked += 1
    assert checked > 10


@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(photometric=0, zoom_out=0, crop=0, flip=1),
        Augmentation(photometric=0, zoom_out=1, crop=0, flip=0, zoom_out_ratio=2),
        Augmentation(photometric=1, zoom_out=0, crop=1, flip=0),
        Augmentation(),
    ],
    ids=["flip", "zoom out", "crop", "all"],
)
def test_augmentation_keeps_boxes_and_mask_together(augmentation: Augmentation) -> None:
    # Two squares on noise, one per class, so that the mask says where a box must be, whatever the crop has left.
    image = np.random.default_rng(0).integers(90, 160, (120, 160, 3), dtype=np.uint8)
    mask = np.zeros((120, 160), dtype=np.uint8)
    boxes = np.array([[20, 30, 60, 70], [90, 50, 140, 110]], dtype=np.float32)
    for (left, top, right, bottom), label in zip(boxes.astype(int), (0, 1), strict=True):
        mask[top:bottom, left:right] = label + 1
        image[top:bottom, left:right] = 250 * label
    data = CocoMultiTaskDataModule("anywhere", SIZE, augmentation=augmentation)
    torch.manual_seed(0)
    places, checked = set(), 0
    for _ in range(30):
        found = transform_boxes_and_mask(data.transform(train=True), image, boxes, np.arange(2), mask)
        for box, label in zip(found[1], found[2], strict=True):
            places.add((label, *box.tolist()))
            seen = found[3] == label + 1
            # To the nearest pixel of the network input, to which the mask is resized.
            np.testing.assert_allclose(extent(seen), box, atol=1.01)
            colour = float(found[0][seen].mean())
            assert colour > 150 if label else colour < 100
            checked += 1
        assert set(np.unique(found[3])) <= {0, 1, 2, 255}
        assert found[0].shape == (*SIZE, 3)
    assert checked > 30
    assert len(places) == 2 if augmentation.crop == augmentation.zoom_out == 0 else len(places) > 10


def test_shapes_have_the_boxes_of_coco_and_the_masks_of_voc(shapes: Path) -> None:
    data = ShapesMultiTaskDataModule(str(shapes), SIZE, num_train=8, num_val=5, batch_size=3, num_workers=0)
    data.prepare_data()
    data.setup("fit")
    assert data.class_names == CLASS_NAMES
    assert data.segment_names == PIXELS
    annotated = json.loads((shapes / "annotations" / "instances_val.json").read_text())
    assert data.val_dataset.image_ids.tolist() == [image["id"] for image in annotated["images"]]
    for index, image in enumerate(annotated["images"]):
        sample = data.val_dataset[index]
        assert sample is not None
        mask = np.asarray(Image.open(shapes / "VOC" / "SegmentationClass" / f"{image['id']:06d}.png"))
        np.testing.assert_array_equal(sample.original_mask, mask)
        boxes = [
            item["bbox"] for item in annotated["annotations"] if item["image_id"] == image["id"] and not item["iscrowd"]
        ]
        assert len(sample.boxes) == len(boxes)
        wide = np.array([box[2] for box in boxes]) * SIZE[1] / image["width"]
        np.testing.assert_allclose(sample.boxes[:, 2] - sample.boxes[:, 0], wide, atol=1e-3)
    batches = list(data.train_dataloader())
    assert [type(batch) for batch in batches] == [MultiTaskBatch] * 2
    for batch in batches:
        assert batch.images.shape == (3, 3, *SIZE)
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert batch.masks.shape == (3, *SIZE)
        assert batch.images.dtype == batch.masks.dtype == torch.uint8
        assert batch.targets.boxes.shape == (3, data.train_dataset.max_objects, 4)
        assert batch.original_masks == []
    first, _ = data.val_dataloader()
    assert [tuple(size) for size in first.sizes.tolist()] == [mask.shape for mask in first.original_masks]


def test_workers_load_the_same(shapes: Path) -> None:
    ids = []
    for workers in (0, 1):
        data = ShapesMultiTaskDataModule(str(shapes), SIZE, num_train=8, num_val=5, num_workers=workers)
        data.setup("validate")
        ids.append(next(iter(data.val_dataloader())).image_ids.tolist())
    assert ids[0] == ids[1] != []


def test_voc_takes_the_images_that_have_masks(voc: Callable[[Path, list[str]], Path], tmp_path: Path) -> None:
    root = voc(tmp_path / "voc", list(CLASS_NAMES))
    for split, stems in (("train", ("000001", "000004", "000003")), ("val", ("000010", "000009"))):
        (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in stems))
    (root / "SegmentationClass" / "000002.png").unlink()  # of an image with boxes alone
    data = VocMultiTaskDataModule(str(root), SIZE, class_names=PIXELS, batch_size=2, num_workers=0)
    data.setup("fit")
    assert [data.train_dataset.file(index).stem for index in range(3)] == ["000001", "000004", "000003"]
    assert (data.class_names, data.segment_names) == (CLASS_NAMES, PIXELS)
    sample = data.val_dataset[0]
    assert sample is not None
    assert set(sample.labels + 1) >= set(np.unique(sample.mask)) - {0, 255} != set()
    assert data.evaluator().listed == 2
    assert {"AP50_voc", "mIoU"} <= set(data.evaluator().compute().to_json())


def without_first(root: Path, split: str) -> None:
    """Take the first image and its objects out of a COCO file."""
    file = root / "annotations" / f"instances_{split}.json"
    content = json.loads(file.read_text())
    gone = content["images"].pop(0)["id"]
    content["annotations"] = [item for item in content["annotations"] if item["image_id"] != gone]
    file.write_text(json.dumps(content))


def test_a_mask_without_boxes_is_refused_or_left_out(shapes: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(shapes, tmp_path / "shapes"))
    without_first(root, "val")
    data = ShapesMultiTaskDataModule(str(root), SIZE, num_train=8, num_val=5, num_workers=0)
    with pytest.raises(
        InputError, match=r"instances_val\.json: 1 of 5 images with masks are not in it, first .*000009"
    ):
        data.setup("validate")
    data = ShapesMultiTaskDataModule(str(root), SIZE, num_train=8, num_val=5, num_workers=0)
    data.on_error = "skip"
    data.setup("validate")
    assert len(data.val_dataset) == 4


def test_what_cannot_be_put_together_is_refused(shapes: Path, coco80: Path, tmp_path: Path) -> None:
    data = coco(coco80)
    boxes, masks = data.detection.val_dataset, data.segmentation.val_dataset
    with pytest.raises(InputError, match="is the same image as"):
        MultiTaskDataset(boxes, masks, identify=lambda file: file.suffix)
    with pytest.raises(InputError, match=r"lists none of the images in .* that have masks"):
        MultiTaskDataset(data.detection.train_dataset, masks, on_error="skip")
    root = Path(shutil.copytree(shapes, tmp_path / "shapes"))
    file = next((root / "VOC" / "SegmentationClass").glob("000009.png"))
    for path in (file, root / "VOC" / "JPEGImages" / "000009.jpg"):
        picture = Image.open(path)
        smaller = picture.resize((200, 100), Image.Resampling.NEAREST)
        path.unlink()  # not through the hard link to the image of COCO's layout
        smaller.save(path)
    shape = ShapesMultiTaskDataModule(str(root), SIZE, num_train=8, num_val=5, num_workers=0)
    shape.setup("validate")
    with pytest.raises(InputError, match=r"000009\.jpg: its mask is of \(100, 200\) pixels.*, but its boxes are of"):
        shape.val_dataset[0]


def two_sets(shapes: Path, **options: Any) -> TwoSetsDataModule:
    return TwoSetsDataModule(
        CocoDataModule(str(shapes), SIZE, "train", "val", batch_size=2, num_workers=0),
        VocSegmentationDataModule(
            str(shapes / "VOC"),
            **{"input_size": SIZE, "class_names": PIXELS, "batch_size": 4, "num_workers": 0} | options,
        ),
    )


def test_two_sets_give_a_batch_of_each_in_every_step(shapes: Path) -> None:
    data = two_sets(shapes)
    data.setup("fit")
    assert (data.class_names, data.segment_names, data.input_size) == (CLASS_NAMES, PIXELS, SIZE)
    batches = [batch for batch, _, _ in data.train_dataloader()]
    assert len(batches) == 4  # of 8 images in pairs; those with masks come twice
    for batch in batches:
        assert isinstance(batch, TwoBatches)
        assert isinstance(batch.detection, DetectionBatch)
        assert isinstance(batch.segmentation, SegmentationBatch)
        assert [len(part.images) for part in (batch.detection, batch.segmentation)] == [2, 4]
    validation = [batch for batch, _, _ in data.val_dataloader()]
    assert [None if batch.detection is None else len(batch.detection.images) for batch in validation] == [2, 2, 1]
    assert [None if batch.segmentation is None else len(batch.segmentation.images) for batch in validation] == [
        4,
        1,
        None,
    ]
    assert len(data.val_dataset) == 10
    assert data.evaluator().listed == 10


def test_two_sets_must_meet_the_network_alike(shapes: Path) -> None:
    with pytest.raises(
        InputError, match=r"detection.input_size is \(96, 128\), data.segmentation.input_size is \(96, 96"
    ):
        two_sets(shapes, input_size=(96, 96))
    with pytest.raises(InputError, match="resizing is fit; boxes need stretch"):
        two_sets(shapes, resizing="fit")
