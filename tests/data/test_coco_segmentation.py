"""COCO's instances painted as classes, by hand and against pycocotools' own decoding."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools.coco import COCO

from mbdet.data import CocoSegmentationDataModule
from mbdet.data.coco_segmentation import CocoSegmentation
from mbdet.data.mask_layouts import VOC_CLASSES
from mbdet.errors import InputError

MakeSplit = Callable[..., Path]
# COCO's categories of the same meaning as VOC's classes 1 to 20, by the names in its own files.
SAME_AS_VOC = [
    *("airplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "dining table", "dog"),
    *("horse", "motorcycle", "person", "potted plant", "sheep", "couch", "train", "tv"),
]


def square(number: int, category: int, x: int, y: int, side: int, **options: Any) -> dict[str, Any]:
    """Return an object on image 7, of 40 x 60 pixels."""
    polygon = [x, y, x + side, y, x + side, y + side, x, y + side]
    record = {"id": number, "image_id": 7, "category_id": category, "bbox": [x, y, side, side], "area": side**2}
    return {**record, "segmentation": [polygon], **options}


def crowd(number: int, category: int, x: int) -> dict[str, Any]:
    """Return two columns of image 7 as a crowd."""
    counts = [40 * x, 80, 40 * 60 - 40 * x - 80]
    rle = {"size": [40, 60], "counts": counts}
    return square(number, category, x, 0, 2, bbox=[x, 0, 2, 40], area=80, segmentation=rle, iscrowd=1)


def read(root: Path, split: str = "train2017", **options: Any) -> CocoSegmentation:
    return CocoSegmentation(root / f"annotations/instances_{split}.json", root / split, **options)


def mask_of(dataset: CocoSegmentation, index: int) -> NDArray[np.uint8]:
    sample = dataset[index]
    assert sample is not None
    return sample.original_mask


def voc_categories() -> list[dict[str, Any]]:
    ids = (5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72)
    categories = [{"id": number, "name": name} for number, name in zip(ids, SAME_AS_VOC, strict=True)]
    return [*categories, {"id": 90, "name": "toothbrush"}]


def test_by_hand(make_split: MakeSplit) -> None:
    """Categories 1, 18 and 90 are classes 1, 2 and 3; overlaps do not count, and crowds are painted."""
    objects = [square(1, 90, 2, 3, 10), square(2, 18, 8, 8, 10), square(3, 1, 30, 3, 4), square(4, 1, 32, 3, 4)]
    dataset = read(make_split(annotations=[*objects, crowd(5, 18, 50)]))
    expected = np.zeros((40, 60), np.uint8)
    expected[3:13, 2:12] = 3
    expected[8:18, 8:18] = 2
    expected[8:13, 8:12] = 255
    expected[3:7, 30:36] = 1
    expected[3:7, 32:34] = 255  # of one class, but two objects
    expected[:, 50:52] = 2
    np.testing.assert_array_equal(mask_of(dataset, 0), expected)
    assert dataset.class_names == ("background", "person", "dog", "brush")
    assert (mask_of(dataset, 1) == 0).all()  # without objects
    assert dataset.image_ids.tolist() == [7, 3, 5]


def test_voc_labels_by_hand(make_split: MakeSplit) -> None:
    """A toothbrush is background, and hides nothing; the person is VOC's 15, the dog its 12."""
    objects = [square(1, 90, 2, 3, 10), square(2, 18, 8, 8, 10), square(3, 1, 30, 3, 4)]
    dataset = read(make_split(annotations=objects, categories=voc_categories()), voc_labels=True)
    expected = np.zeros((40, 60), np.uint8)
    expected[8:18, 8:18] = VOC_CLASSES.index("dog")
    expected[3:7, 30:34] = VOC_CLASSES.index("person")
    np.testing.assert_array_equal(mask_of(dataset, 0), expected)
    assert len(dataset) == 3


@pytest.mark.parametrize(
    ("objects", "kept"),
    [
        ([square(1, 18, 0, 0, 30), square(2, 1, 30, 0, 10)], []),  # 1000 is not more than 1000
        ([square(1, 18, 0, 0, 30, area=900.5), square(2, 1, 30, 0, 10)], [7]),
        ([square(1, 18, 0, 0, 30), square(2, 90, 0, 0, 40)], []),
        ([square(1, 18, 0, 0, 31), crowd(2, 1, 50)], [7]),
    ],
)
def test_training_leaves_out_images_that_show_little(
    make_split: MakeSplit, objects: list[dict[str, Any]], kept: list[int]
) -> None:
    enough = square(9, 62, 0, 0, 48, image_id=3)
    root = make_split(annotations=[*objects, enough], categories=voc_categories())
    dataset = read(root, voc_labels=True, train=True)
    assert dataset.image_ids.tolist() == [*kept, 3]
    assert dataset.file(len(kept)) == root / "train2017" / "b.png"
    assert (mask_of(dataset, len(kept))[:48, :48] == VOC_CLASSES.index("chair")).all()
    assert read(root, voc_labels=True).image_ids.tolist() == [7, 3, 5]
    assert read(root, train=True).image_ids.tolist() == [7, 3, 5]


def test_files_that_are_refused(make_split: MakeSplit) -> None:
    root = make_split()
    with pytest.raises(InputError, match=r"train2017.json: has no category 2, .* set voc_labels to false"):
        read(root, voc_labels=True)
    with pytest.raises(InputError, match=r"annotation 101 .image 7.: segmentation is neither"):
        read(root)[0]
    root = make_split(annotations=[], categories=voc_categories())
    with pytest.raises(InputError, match="no image shows more than 1000 pixels of VOC's classes"):
        read(root, voc_labels=True, train=True)
    many = [{"id": number, "name": str(number)} for number in range(255)]
    with pytest.raises(InputError, match="has 255 categories; masks have room for 254"):
        read(make_split(annotations=[], categories=many))


def test_splits_of_other_categories_are_refused(make_split: MakeSplit) -> None:
    make_split(annotations=[])
    root = make_split("val2017", annotations=[], categories=[{"id": 1, "name": "person"}])
    data = CocoSegmentationDataModule(str(root), (32, 32), num_workers=0)
    with pytest.raises(InputError, match=r"train2017.json: its 3 categories are not the 1 of .*val2017.json"):
        data.setup("fit")
    with pytest.raises(InputError, match=r"nowhere: .* val2017/ with annotations/instances_val2017.json"):
        CocoSegmentationDataModule("nowhere", (32, 32)).setup("fit")


@pytest.mark.parametrize("voc_labels", [False, True])
def test_real_data(real_data: Path, voc_labels: bool) -> None:
    """Every mask is what pycocotools decodes, one object after the other."""
    dataset = read(real_data / "coco", "val2017", voc_labels=voc_labels)
    coco = COCO(real_data / "coco" / "annotations" / "instances_val2017.json")
    names = SAME_AS_VOC if voc_labels else [coco.cats[number]["name"] for number in sorted(coco.cats)]
    assert len(dataset.class_names) == len(names) + 1
    crowds = {record["image_id"] for record in coco.anns.values() if record["iscrowd"]}
    seen: set[int] = set()
    for index, image_id in enumerate(dataset.image_ids.tolist()):
        if image_id not in crowds and index % 10:
            continue
        mask = mask_of(dataset, index)
        expected, covered = np.zeros_like(mask), np.zeros(mask.shape, int)
        for record in coco.imgToAnns[image_id]:
            name = coco.cats[record["category_id"]]["name"]
            if name in names:
                shape = coco.annToMask(record) > 0
                expected[shape] = names.index(name) + 1
                covered += shape
        expected[covered > 1] = 255
        np.testing.assert_array_equal(mask, expected)
        seen.update(np.unique(mask).tolist())
    assert len(seen) > 10
    assert crowds


def test_real_training_data(real_data: Path) -> None:
    dataset = read(real_data / "coco", voc_labels=True, train=True)
    assert 150 < len(dataset) < 320
    for index in range(0, len(dataset), 40):
        assert len(np.unique(mask_of(dataset, index))) > 1
