"""Mask files in the layouts of VOC, Cityscapes and plain folders: what is read, and what is refused."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mbdet.data import CityscapesDataModule, FolderSegmentationDataModule, VocSegmentationDataModule
from mbdet.data.mask_files import read_mask
from mbdet.data.mask_layouts import CITYSCAPES_CLASSES, VOC_CLASSES
from mbdet.data.segmentation import SegmentationDataModule
from mbdet.data.segmentation_dataset import SegmentationSample
from mbdet.data.shapes_files import voc_palette
from mbdet.errors import InputError

SIZE = (20, 30)
NAMES = ("sky", "road", "car")


def save_image(path: Path, size: tuple[int, int] = SIZE, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)).save(path, **options)


def save_mask(path: Path, values: NDArray[np.uint8], *, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = Image.fromarray(values)
    if palette:
        mask.putpalette(voc_palette().tobytes())
    mask.save(path)


def random_mask(seed: int, values: list[int]) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).choice(np.array(values, np.uint8), SIZE)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Return folders like CamVid's, with masks of 3 classes and 11 for void."""
    for split, count in (("train", 3), ("val", 2)):
        for number in range(count):
            save_image(tmp_path / split / f"{number}.jpg")
            save_mask(tmp_path / f"{split}annot" / f"{number}.png", random_mask(number, [0, 1, 2, 11]))
    return tmp_path


def folder_module(root: Path, **options: Any) -> FolderSegmentationDataModule:
    return FolderSegmentationDataModule(
        str(root), SIZE, **{"class_names": NAMES, "ignore": [11], "num_workers": 0, "augmentation": None, **options}
    )


def first_sample(data: SegmentationDataModule) -> SegmentationSample:
    data.setup("fit")
    sample = data.val_dataset[0]
    assert sample is not None
    return sample


def test_folders(folders: Path) -> None:
    data = folder_module(folders)
    sample = first_sample(data)
    expected = random_mask(0, [0, 1, 2, 11])
    expected[expected == 11] = 255
    np.testing.assert_array_equal(sample.original_mask, expected)
    np.testing.assert_array_equal(sample.mask, expected)
    np.testing.assert_array_equal(sample.image, np.asarray(Image.open(folders / "val" / "0.jpg")))
    assert (sample.image_id, sample.size, data.class_names) == (0, SIZE, NAMES)
    assert (len(data.train_dataset), len(data.val_dataset)) == (3, 2)


def test_folders_by_other_names(folders: Path) -> None:
    (folders / "masks").mkdir()
    (folders / "valannot").rename(folders / "masks" / "val")
    for path in list((folders / "masks" / "val").iterdir()):
        values = np.asarray(Image.open(path))
        save_mask(path.with_name(f"{path.stem}_L.bmp"), np.where(values == 11, 0, values + 1).astype(np.uint8))
    data = folder_module(folders, masks="masks/{split}", mask_suffix="_L", first_value=1, ignore=[0])
    data.setup("validate")
    sample = data.val_dataset[1]
    assert sample is not None
    expected = random_mask(1, [0, 1, 2, 11])
    np.testing.assert_array_equal(sample.mask, np.where(expected == 11, 255, expected))


def test_voc_reads_palette_indices(tmp_path: Path) -> None:
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for split, stems in (("train", "ab"), ("val", "c"), ("train_aug", "ad")):
        (lists / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in stems))
    for number, stem in enumerate("abcd"):
        save_image(tmp_path / "JPEGImages" / f"{stem}.jpg")
        save_mask(tmp_path / "SegmentationClassAug" / f"{stem}.png", random_mask(9 + number, [0, 3]))
        if stem != "d":
            save_mask(tmp_path / "SegmentationClass" / f"{stem}.png", random_mask(number, [0, 20, 255]), palette=True)
    data = VocSegmentationDataModule(str(tmp_path), SIZE, num_workers=0, augmentation=None)
    np.testing.assert_array_equal(first_sample(data).mask, random_mask(2, [0, 20, 255]))
    assert data.class_names == VOC_CLASSES
    assert len(data.train_dataset) == 2
    augmented = VocSegmentationDataModule(
        str(tmp_path), SIZE, "train_aug", train_masks="SegmentationClassAug", num_workers=0, augmentation=None
    )
    np.testing.assert_array_equal(first_sample(augmented).mask, random_mask(2, [0, 20, 255]))  # VOC's own
    np.testing.assert_array_equal(augmented.train_dataset[1].mask, random_mask(12, [0, 3]))  # type: ignore[union-attr]
    assert augmented.train_dataset.file(1).name == "d.jpg"
    with pytest.raises(InputError, match=r"1 of 2 masks are missing in .*, first SegmentationClass/d.png"):
        VocSegmentationDataModule(str(tmp_path), SIZE, "train_aug", num_workers=0).setup("fit")
    with pytest.raises(InputError, match=r"Segmentation/test.txt: there is no such list of images"):
        VocSegmentationDataModule(str(tmp_path), SIZE, val_split="test", num_workers=0).setup("fit")


def test_cityscapes_ids_become_train_ids(tmp_path: Path) -> None:
    for split, city in (("train", "aachen"), ("val", "lindau"), ("val", "frankfurt")):
        stem = f"{city}_000000_000019"
        save_image(tmp_path / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png")
        values = np.arange(600, dtype=np.int64).reshape(SIZE) % 34
        save_mask(tmp_path / "gtFine" / split / city / f"{stem}_gtFine_labelIds.png", values.astype(np.uint8))
    data = CityscapesDataModule(str(tmp_path), SIZE, num_workers=0, augmentation=None)
    labels = first_sample(data).mask.ravel()[:34].tolist()
    # The rows of the table in the benchmark's labels.py, by hand.
    known = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13, 27: 14}
    known |= {28: 15, 31: 16, 32: 17, 33: 18}
    assert labels == [known.get(value, 255) for value in range(34)]
    assert len(data.class_names) == len(CITYSCAPES_CLASSES) == 19
    assert [data.val_dataset.file(index).parent.name for index in range(2)] == ["frankfurt", "lindau"]
    with pytest.raises(InputError, match=r"leftImg8bit/test: no CITY/\*_leftImg8bit.png in it"):
        CityscapesDataModule(str(tmp_path), SIZE, val_split="test", num_workers=0).setup("fit")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((10, 30), np.uint8), r"0.png: the mask is 30x10, its image .*0.jpg is 30x20 \(width x height\)"),
        (np.zeros((30, 20), np.uint8), "0.png: the mask is 20x30, its image"),
        (np.full(SIZE, 3, np.uint8), "0.png: has the value 3, but the 3 classes have 0, 1, 2, 11, and 255 does not"),
        (random_mask(0, [0, 7, 9]), "0.png: has the values 7, 9, but"),
        (np.zeros((*SIZE, 3), np.uint8), "0.png: the mask is a picture in colour .RGB.*look each colour up"),
        (np.full(SIZE, 300, np.uint16), "0.png: has values outside of 0 to 255"),
    ],
)
def test_masks_that_are_refused(folders: Path, values: NDArray[Any], message: str) -> None:
    Image.fromarray(values).save(folders / "valannot" / "0.png")
    data = folder_module(folders)
    data.setup("fit")
    with pytest.raises(InputError, match=message):
        data.val_dataset[0]
    skipping = folder_module(folders, on_error="skip")
    skipping.setup("fit")
    assert skipping.val_dataset[0] is None
    assert skipping.val_dataset[1] is not None


def test_a_truncated_mask_is_replaced_in_training(folders: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = folders / "trainannot" / "1.png"
    path.write_bytes(path.read_bytes()[:60])
    data = folder_module(folders)
    data.setup("fit")
    with pytest.raises(InputError, match=r"trainannot/1.png: cannot be read as a mask"):
        data.train_dataset[1]
    data = folder_module(folders, on_error="skip")
    data.setup("fit")
    with caplog.at_level(logging.WARNING):
        sample = data.train_dataset[1]
    assert sample is not None
    assert sample.image_id == 2
    assert str(path) in caplog.text


def test_missing_masks(folders: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folders / "trainannot" / "1.png").unlink()
    with pytest.raises(InputError, match=r"train: 1 of 3 masks are missing in .*, first trainannot/1.png; copy"):
        folder_module(folders).setup("fit")
    data = folder_module(folders, on_error="skip")
    with caplog.at_level(logging.WARNING):
        data.setup("fit")
    assert data.train_dataset.image_ids.tolist() == [0, 2]
    assert "left out 1 images" in caplog.text
    for path in (folders / "trainannot").iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"none of the 3 images of .*train can be used"):
        folder_module(folders, on_error="skip").setup("fit")


def test_black_and_white_masks_are_caught(folders: Path) -> None:
    for split in ("train", "val"):
        for path in (folders / f"{split}annot").iterdir():
            save_mask(path, random_mask(0, [0, 255]))
    with pytest.raises(InputError, match=r"0.png: this mask and others know the values 0 and 255 alone.*as 1 instead"):
        folder_module(folders, class_names=("background", "cell"), ignore=()).setup("fit")
    data = folder_module(folders, class_names=("background", "cell"), ignore=[255])
    assert set(np.unique(first_sample(data).mask)) == {0, 255}
    save_mask(folders / "valannot" / "1.png", random_mask(0, [0, 1, 255]))
    folder_module(folders, class_names=("background", "cell"), ignore=()).setup("validate")


def test_masks_of_one_bit(tmp_path: Path) -> None:
    values = random_mask(0, [0, 1])
    Image.fromarray(values * 255).convert("1").save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), values)
    with pytest.raises(InputError, match=r"b.png: there is no such mask"):
        read_mask(tmp_path / "b.png")


def test_a_mask_drawn_on_the_stored_pixels_of_a_turned_image(folders: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    save_image(folders / "val" / "0.jpg", exif=exif)
    sample = first_sample(folder_module(folders))
    assert sample.size == SIZE
    save_mask(folders / "valannot" / "0.png", random_mask(0, [0, 1]).T.copy())
    assert first_sample(folder_module(folders)).size == SIZE[::-1]


def test_folders_that_are_refused(folders: Path) -> None:
    for options, message in (
        ({"masks": "labels/{split}"}, "labels/val: there is no such folder"),
        ({"masks": "{split}"}, "val: is given for images and masks"),
        ({"root": "nowhere"}, "nowhere: .*make it, and in it train/ and trainannot/ and val/ and valannot/"),
    ):
        with pytest.raises(InputError, match=message):
            folder_module(Path(options.pop("root", folders)), **options).setup("fit")
    (folders / "empty").mkdir()
    with pytest.raises(InputError, match="empty: no picture in it"):
        folder_module(folders, images="empty").setup("fit")
    save_image(folders / "val" / "0.png")
    with pytest.raises(InputError, match=r"val/0.png: there is also 0.jpg in this folder"):
        folder_module(folders).setup("fit")
    (folders / "val" / "0.png").unlink()
    (folders / "valannot" / "0.png").unlink()
    save_image(folders / "valannot" / "0.jpg")
    with pytest.raises(InputError, match=r"valannot/0.jpg: the mask is a JPEG"):
        folder_module(folders).setup("fit")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ignore": [2]}, "3 classes have the values 0 to 2 and ignore is .2.;"),
        ({"ignore": [256]}, "ignore is .256."),
        ({"ignore": [0], "first_value": -1}, "values -1 to 1"),
        ({"class_names": ["a", "a"]}, "class_names a, a; give each class a name of its own"),
        ({"class_names": []}, "class_names is empty"),
    ],
)
def test_options_that_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        folder_module(Path("x"), **options)
