import json
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from lightning import LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mbdet.data.detection import CocoDataModule, collate
from mbdet.data.detection_dataset import DetectionSample
from mbdet.data.transforms import Augmentation
from mbdet.errors import InputError
from mbdet.types import DetectionBatch

MakeSplit = Callable[..., Path]


@pytest.fixture
def root(make_split: MakeSplit) -> Path:
    make_split("train2017")
    return make_split("val2017")


def module(root: Path, stage: str = "fit", **options: Any) -> CocoDataModule:
    data = CocoDataModule(str(root), **({"input_size": (20, 30), "batch_size": 2, "num_workers": 0} | options))
    data.setup(stage)
    return data


# Batches


def test_a_batch_is_padded_and_stored_channels_last(root: Path) -> None:
    first, second = module(root).val_dataloader()
    assert isinstance(first, DetectionBatch)
    assert (first.images.shape, first.images.dtype) == ((2, 3, 20, 30), torch.uint8)
    assert first.images.is_contiguous(memory_format=torch.channels_last)
    assert first.image_ids.tolist() == [7, 3]
    assert first.sizes.tolist() == [[40, 60], [50, 50]]
    # In pixels of the network input: halves of a.png, 3/5 and 2/5 of b.png.
    assert first.targets.boxes.flatten(0, 1).tolist() == [
        pytest.approx(box, abs=1e-3) for box in ([0.75, 1.125, 5.75, 11.125], [0] * 4, [6, 2, 18, 14], [0, 16, 30, 20])
    ]
    assert first.targets.labels.tolist() == [[0, 0], [2, 1]]
    assert first.targets.valid.tolist() == [[True, False], [True, True]]
    assert second.targets.boxes.shape == (1, 2, 4)  # M stays although the image has no objects
    assert not second.targets.valid.any()


def test_batches_hold_the_pixels_of_their_samples(root: Path) -> None:
    data = module(root)
    batch = next(iter(data.val_dataloader()))
    for image, index in zip(batch.images, (0, 1), strict=True):
        sample = data.val_dataset[index]
        assert sample is not None
        np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), sample.image)


def test_a_set_without_any_object_has_one_padded_target(make_split: MakeSplit) -> None:
    make_split("train2017", annotations=[])
    data = module(make_split("val2017", annotations=[]))
    for batch in [*data.train_dataloader(), *data.val_dataloader()]:
        assert batch.targets.valid.shape[1] == 1
        assert not batch.targets.valid.any()


def test_a_batch_of_dropped_samples_is_empty_and_passes_through_a_network() -> None:
    batch = collate([None, None], input_size=(16, 24), max_objects=5)
    assert batch.images.shape == (0, 3, 16, 24)
    assert batch.targets.boxes.shape == (0, 5, 4)
    assert batch.image_ids.shape == (0,)
    assert batch.sizes.shape == (0, 2)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.Hardswish(), nn.AdaptiveAvgPool2d(1)
    ).eval()
    assert network(batch.images.float()).shape == (0, 4, 1, 1)


def test_dropped_samples_leave_the_others_in_place() -> None:
    image = np.full((4, 6, 3), 9, np.uint8)
    sample = DetectionSample(image, np.array([[1, 1, 2, 2]], np.float32), np.array([3]), 42, (40, 60))
    batch = collate([None, sample, None], input_size=(4, 6), max_objects=2)
    assert batch.image_ids.tolist() == [42]
    assert batch.targets.valid.tolist() == [[True, False]]


class Recorder(LightningModule):
    """Notes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.trained: list[int] = []
        self.validated: list[list[int]] = []

    def training_step(self, batch: DetectionBatch) -> Tensor:
        self.trained += batch.image_ids.tolist()
        return self.weight * batch.images.float().mean()

    def validation_step(self, batch: DetectionBatch) -> None:
        self.validated.append(batch.image_ids.tolist())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def train(data: CocoDataModule, root: Path) -> Recorder:
    recorder = Recorder()
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=root,
    )
    trainer.fit(recorder, datamodule=data)
    return recorder


@pytest.mark.filterwarnings("ignore:The .*dataloader.* does not have many workers")
def test_unreadable_images_do_not_stop_a_run(root: Path) -> None:
    for file in ("train2017/b.png", "val2017/a.png", "val2017/b.png"):
        (root / file).write_bytes(b"")
    data = CocoDataModule(str(root), (20, 30), batch_size=1, num_workers=0, on_error="skip")
    recorder = train(data, root)
    assert sorted(recorder.trained) == [5, 5, 7]  # in training the next image takes its place
    assert recorder.validated == [[], [], [5]]  # in validation nothing does


# Loaders


@pytest.mark.parametrize(("batch_size", "sizes"), [(1, [1, 1, 1]), (2, [2]), (3, [3]), (32, [3])])
def test_training_drops_the_last_batch_unless_it_is_the_only_one(root: Path, batch_size: int, sizes: list[int]) -> None:
    assert [len(batch.images) for batch in module(root, batch_size=batch_size).train_dataloader()] == sizes


def test_training_is_shuffled_and_augmented_and_validation_is_not(root: Path) -> None:
    data = module(root, batch_size=3)
    torch.manual_seed(0)
    orders, sums = set(), set()
    for _ in range(8):
        (batch,) = data.train_dataloader()
        orders.add(tuple(batch.image_ids.tolist()))
        sums.add(int(batch.images.sum()))
        (batch,) = data.val_dataloader()
        assert batch.image_ids.tolist() == [7, 3, 5]
    assert len(orders) > 2
    assert len(sums) == 8


def test_without_augmentation_training_sees_the_pixels_of_validation(root: Path) -> None:
    data = module(root, augmentation=None)
    for one, other in zip(data.train_dataset, data.val_dataset, strict=True):
        assert one is not None
        assert other is not None
        np.testing.assert_array_equal(one.image, other.image)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_seed_repeats_the_batches(root: Path, workers: int) -> None:
    data = module(root, num_workers=workers)

    def epochs() -> list[DetectionBatch]:
        seed_everything(3, workers=True, verbose=False)
        loader = data.train_dataloader()
        return [batch for _ in range(2) for batch in loader]

    for one, other in zip(epochs(), epochs(), strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.targets.boxes, other.targets.boxes)


def test_workers_persist(root: Path) -> None:
    assert module(root, num_workers=1).train_dataloader().persistent_workers
    assert not module(root).train_dataloader().persistent_workers


def test_everything_can_be_sent_to_a_spawned_worker(root: Path) -> None:
    loader = module(root).train_dataloader()
    dataset, collate_fn = pickle.loads(pickle.dumps((loader.dataset, loader.collate_fn)))
    assert next(iter(DataLoader(dataset, 2, collate_fn=collate_fn))).images.shape == (2, 3, 20, 30)
    assert isinstance(collate_fn, partial)


# Setup


def test_validation_reads_no_training_data(root: Path) -> None:
    (root / "annotations/instances_train2017.json").unlink()
    for stage in ("validate", "test"):
        data = module(root, stage)
        assert data.class_names == ("person", "dog", "brush")
        assert data.val_annotations == root / "annotations/instances_val2017.json"
        assert len(list(data.test_dataloader())) == 2
    with pytest.raises(InputError, match="instances_train2017"):
        data.setup("fit")


def test_other_names_of_splits(make_split: MakeSplit) -> None:
    make_split("dogs")
    data = module(make_split("cats"), train_split="dogs", val_split="cats")
    assert data.train_dataset.images.name == "dogs"
    assert data.val_annotations.name == "instances_cats.json"


def test_a_missing_root_is_told_the_layout(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: .*train2017/.*instances_train2017.json.*val2017/") as error:
        module(tmp_path / "nowhere")
    assert "\n" not in str(error.value)


def test_splits_with_other_categories_are_refused(make_split: MakeSplit) -> None:
    make_split("train2017")
    root = make_split("val2017", categories=[{"id": 1, "name": "person"}], annotations=[])
    with pytest.raises(InputError, match=r"instances_train2017.json: its 3 categories are not the 1 of .*val2017"):
        module(root)


@pytest.mark.parametrize("option", [{"batch_size": 0}, {"num_workers": -1}, {"input_size": (0, 320)}])
def test_impossible_numbers_are_refused(root: Path, option: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(option))} .*give"):
        module(root, **option)


# Configuration


def parse(tmp_path: Path, config: dict[str, Any], *arguments: str) -> CocoDataModule:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(CocoDataModule, "data")
    file = tmp_path / "config.yaml"  # JSON is YAML
    file.write_text(json.dumps({"data": {"class_path": "mbdet.data.detection.CocoDataModule", "init_args": config}}))
    data = parser.instantiate_classes(parser.parse_args([f"--config={file}", *arguments])).data
    assert isinstance(data, CocoDataModule)
    return data


def test_yaml_and_flags_say_every_option(tmp_path: Path) -> None:
    config = {"root": "data/coco", "input_size": [320, 640], "augmentation": {"zoom_out": 0.25}}
    data = parse(tmp_path, config, "--data.augmentation.flip", "0", "--data.on_error=skip", "--data.batch_size=8")
    assert data.augmentation == Augmentation(zoom_out=0.25, flip=0)
    assert data.input_size == (320, 640)
    assert (data.on_error, data.batch_size) == ("skip", 8)


def test_yaml_turns_augmentation_off(tmp_path: Path) -> None:
    config = {"root": "data/coco", "input_size": [320, 320]}
    assert parse(tmp_path, config | {"augmentation": None}).augmentation is None
    assert parse(tmp_path, config).augmentation == Augmentation()
    assert parse(tmp_path, config, "--data.augmentation.flip=0").augmentation == Augmentation(flip=0)


def test_a_real_epoch(real_data: Path) -> None:
    data = module(real_data / "coco", batch_size=16, input_size=(64, 64))
    ids = [i for batch in data.val_dataloader() for i in batch.image_ids.tolist()]
    assert ids == data.val_dataset.image_ids.tolist()
    assert len(data.class_names) == 80
    batch = next(iter(data.train_dataloader()))
    assert batch.targets.valid.sum() > 16
    assert batch.targets.boxes.shape[1] == data.train_dataset.max_objects == 42
