"""Folders of classes: what is read, in which order, and what is refused."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from mbdet.data.classification import ImageFolderDataModule, collate
from mbdet.data.crops import CropAugmentation, EvalTransform, TrainTransform
from mbdet.data.image_folder import ImageFolder
from mbdet.errors import InputError
from mbdet.runtime.image import central_crop, resize


@pytest.fixture
def folders(image_folder: Path, tmp_path: Path) -> Path:
    """Return a copy that a test may damage."""
    return Path(shutil.copytree(image_folder, tmp_path / "folders"))


def damage(folders: Path, name: str) -> Path:
    path = folders / name
    path.write_bytes(path.read_bytes()[:200])
    return path


def test_sorted_folders_are_the_labels(folders: Path) -> None:
    (folders / "val" / ".ipynb_checkpoints").mkdir()
    (folders / "val" / "circle" / "notes.txt").write_text("no picture")
    (folders / "val" / "circle" / "deeper").mkdir()
    Image.new("L", (5, 9)).save(folders / "val" / "circle" / "deeper" / "IMG.JPEG")
    dataset = ImageFolder(folders / "val")
    assert dataset.class_names == ("circle", "square", "triangle")
    assert dataset.labels.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert [dataset.file(index).name for index in range(3)] == ["0.png", "1.png", "IMG.JPEG"]
    sample = dataset[2]
    assert sample is not None
    assert (sample.image.shape, sample.label, sample.image_id, sample.size) == ((9, 5, 3), 0, 2, (9, 5))
    np.testing.assert_array_equal(dataset[3].image, np.asarray(Image.open(dataset.file(3))))  # type: ignore[union-attr]


def test_a_damaged_image_raises_with_its_name(folders: Path) -> None:
    path = damage(folders, "train/square/1.png")
    dataset = ImageFolder(folders / "train")
    with pytest.raises(InputError, match=str(path)):
        dataset[5]


def test_a_damaged_image_is_replaced_in_training_and_left_out_in_evaluation(
    folders: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = damage(folders, "train/triangle/3.png")
    train = ImageFolder(folders / "train", train=True, on_error="skip")
    with caplog.at_level(logging.WARNING):
        sample = train[11]
        assert train[11] is not None
    assert sample is not None
    assert (sample.label, sample.image_id) == (0, 0)  # the next, from the start
    assert len([record for record in caplog.records if str(path) in record.message]) == 1
    assert ImageFolder(folders / "train", on_error="skip")[11] is None


def test_no_readable_image_at_all(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "a.jpg").write_bytes(b"nothing")
    with pytest.raises(InputError, match="none of the 1 images can be read"):
        ImageFolder(tmp_path, train=True, on_error="skip")[0]


def test_layouts_that_are_refused(folders: Path) -> None:
    def module(**options: str) -> ImageFolderDataModule:
        return ImageFolderDataModule(**{"root": str(folders), "num_workers": 0, **options})

    for options, message in (
        ({"root": "nowhere"}, "nowhere: there is no such data set folder; make it, and in it train/ and val/"),
        ({"val_split": "test"}, "folders/test: there is no such split"),
    ):
        with pytest.raises(InputError, match=message):
            module(**options).setup("fit")
    (folders / "train" / "hexagon").mkdir()
    with pytest.raises(InputError, match="train/hexagon: no picture in this class folder"):
        module().setup("fit")
    Image.new("RGB", (4, 4)).save(folders / "train" / "hexagon" / "1.png")
    with pytest.raises(InputError, match=r"train/hexagon: .*val has no such class folder \(1 of 4 differ\)"):
        module().setup("fit")
    module().setup("validate")  # which needs no training split
    shutil.rmtree(folders / "train" / "hexagon")
    shutil.rmtree(folders / "train" / "circle")
    with pytest.raises(InputError, match=r"val/circle: .*train has no such class folder"):
        module().setup("fit")
    shutil.rmtree(folders / "val")
    (folders / "val").mkdir()
    with pytest.raises(InputError, match="val: no class folder in it"):
        module().setup("validate")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size 0"),
        ({"num_workers": -1}, "num_workers -1"),
        ({"eval_crop": 0.0}, "eval_crop is 0.0"),
        ({"eval_crop": 1.5}, "eval_crop is 1.5"),
    ],
)
def test_numbers_out_of_range(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ImageFolderDataModule("x", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"min_area": 0}, {"max_aspect": 0.5}, {"flip": 2}, {"photometric": -1}])
def test_strengths_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"augmentation.{next(iter(options))} is"):
        CropAugmentation(**options)


@pytest.mark.parametrize(
    ("size", "fraction", "box"),
    [
        ((200, 100), 0.875, (12, 6, 188, 94)),  # slim: the start is int(side * 0.125 / 2), the same at the end
        ((8, 8), 0.5, (2, 2, 6, 6)),
        ((7, 5), 1.0, (0, 0, 7, 5)),
        ((1, 3), 0.1, (0, 1, 1, 2)),
    ],
)
def test_central_crop(size: tuple[int, int], fraction: float, box: tuple[int, int, int, int]) -> None:
    image = np.arange(size[0] * size[1] * 3, dtype=np.int64).astype(np.uint8).reshape(*size, 3)
    top, left, bottom, right = box
    np.testing.assert_array_equal(central_crop(image, fraction), image[top:bottom, left:right])


def test_evaluation_is_the_device_s_crop_and_resize() -> None:
    image = np.random.default_rng(0).integers(0, 256, (100, 200, 3), dtype=np.uint8)
    expected = resize(image[6:94, 12:188], (32, 48))
    np.testing.assert_array_equal(EvalTransform((32, 48), 0.875)(image), expected)


def test_training_crops_stay_within_their_limits() -> None:
    """A picture of its own coordinates tells which part of it each crop shows."""
    rows, columns = np.mgrid[0:256, 0:256].astype(np.uint8)
    image = np.stack([rows, columns, np.zeros_like(rows)], axis=2)
    transform = TrainTransform((64, 64), CropAugmentation(min_area=0.25, max_aspect=1.5, flip=0.5, photometric=0.0))
    torch.manual_seed(0)
    areas, aspects, flipped = [], [], []
    for _ in range(200):
        crop = transform(image).astype(float)
        assert crop.shape == (64, 64, 3)
        height = crop[-1, :, 0].mean() - crop[0, :, 0].mean()
        width = crop[:, -1, 1].mean() - crop[:, 0, 1].mean()
        flipped.append(width < 0)
        areas.append(height * abs(width) / 256**2 * (64 / 63) ** 2)
        aspects.append(abs(width) / height)
    assert 0.22 < min(areas) < 0.35
    assert 0.75 < max(areas) <= 1.05
    assert 1 / 1.6 < min(aspects) < 0.8
    assert 1.25 < max(aspects) < 1.6
    assert 60 < sum(flipped) < 140


def test_colours_are_distorted_only_if_asked() -> None:
    image = np.full((40, 40, 3), (200, 100, 50), np.uint8)
    torch.manual_seed(0)
    still = TrainTransform((16, 16), CropAugmentation(photometric=0.0))
    np.testing.assert_array_equal(still(image), image[:16, :16])
    distorted = TrainTransform((16, 16), CropAugmentation(photometric=1.0))
    assert len({tuple(distorted(image)[0, 0]) for _ in range(20)}) > 10


def test_batches(image_folder: Path) -> None:
    data = ImageFolderDataModule(str(image_folder), (32, 40), batch_size=4, num_workers=0)
    data.setup("fit")
    assert len(data.train_dataloader()) == 3
    first, second = data.val_dataloader()
    assert first.images.shape == (4, 3, 32, 40)
    assert first.images.dtype == torch.uint8
    assert first.images.is_contiguous(memory_format=torch.channels_last)
    assert torch.cat([first.labels, second.labels]).tolist() == [0, 0, 1, 1, 2, 2]
    assert torch.cat([first.image_ids, second.image_ids]).tolist() == list(range(6))
    assert first.sizes.tolist() == [[48, 64]] * 4
    expected = EvalTransform((32, 40), 0.875)(np.asarray(Image.open(data.val_dataset.file(0))))
    np.testing.assert_array_equal(first.images[0].permute(1, 2, 0), expected)


def test_unreadable_images_make_smaller_batches() -> None:
    batch = collate([None, None], (8, 9))
    assert batch.images.shape == (0, 3, 8, 9)
    assert batch.sizes.shape == (0, 2)
    assert len(batch.labels) == len(batch.image_ids) == 0


def test_workers_augment_differently(image_folder: Path) -> None:
    dataset = ImageFolder(image_folder / "train", TrainTransform((16, 16)), train=True)
    torch.manual_seed(0)
    loader = DataLoader(torch.utils.data.Subset(dataset, [0, 0]), batch_size=None, num_workers=2)
    one, other = loader
    assert (np.asarray(one.image) != np.asarray(other.image)).any()
