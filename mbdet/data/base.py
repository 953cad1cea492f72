"""What the data sets and data modules of all tasks share: files that cannot be read, and batches of static shapes."""

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mbdet.data.records import OnError
from mbdet.errors import InputError
from mbdet.metrics.base import Evaluator

logger = logging.getLogger(__name__)


class Identified(Protocol):
    """A sample of an image that the data set can name."""

    @property
    def image_id(self) -> int:
        """The data set's own number of it."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the original image."""


Sample = TypeVar("Sample")
Transform = TypeVar("Transform")


def stack_images(images: Sequence[NDArray[np.uint8]], input_size: tuple[int, int]) -> Tensor:
    """Make a tensor (B, 3, H, W) of B images (H, W, 3) of the input size, stored HWC (channels_last)."""
    stacked = np.empty((len(images), *input_size, 3), dtype=np.uint8)
    for row, image in enumerate(images):
        stacked[row] = image
    return torch.from_numpy(stacked).permute(0, 3, 1, 2)


def ids_and_sizes(samples: Sequence[Identified]) -> tuple[Tensor, Tensor]:
    """Return the ids (B,) of B samples, and the heights and widths (B, 2) of their original images."""
    return (
        torch.tensor([sample.image_id for sample in samples], dtype=torch.int64),
        torch.tensor([sample.size for sample in samples], dtype=torch.int64).reshape(-1, 2),
    )


class ImageDataset(Dataset[Sample | None], ABC, Generic[Sample]):
    """Images with what a task knows of them.

    Args:
        images: Folder of the images, for messages.
        train: What becomes of an image that turns out unreadable under `on_error="skip"`: in training the next readable
            one takes its place, otherwise its sample is None.
        on_error: Whether an unreadable image raises, or is left out and logged.
    """

    class_names: tuple[str, ...]

    def __init__(self, images: Path, *, train: bool, on_error: OnError) -> None:
        self.images, self.train, self.on_error = images, train, on_error
        self._unreadable: set[int] = set()

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of images."""

    @abstractmethod
    def load(self, index: int) -> Sample:
        """Read and transform one sample.

        Raises:
            InputError: If its image is unreadable.
        """

    def __getitem__(self, index: int) -> Sample | None:
        """Read and transform one sample.

        Returns:
            The sample; None for an unreadable image that is skipped in evaluation.

        Raises:
            InputError: If the image is unreadable and `on_error` is "raise", or if no image is readable.
        """
        first = range(len(self))[index]
        for candidate in chain(range(first, len(self)), range(first)):
            try:
                return self.load(candidate)
            except InputError as error:
                if self.on_error == "raise":
                    raise
                self._log_unreadable(candidate, error)
            if not self.train:
                return None
        raise InputError(f"{self.images}: none of the {len(self)} images can be read; replace them")

    def _log_unreadable(self, index: int, error: InputError) -> None:
        if index not in self._unreadable:
            self._unreadable.add(index)
            # Without a count: each worker process has one of its own.
            logger.warning("%s; skipped", error)


class ImageDataModule(LightningDataModule, ABC, Generic[Sample, Transform]):
    """A training and a validation split.

    Args:
        root: Folder of the data set.
        input_size: Height and width of the network input.
        train_split: Name of the training split.
        val_split: Name of the split that validation and test use.
        batch_size: Images per batch and device.
        num_workers: Processes that load each split, at most one per CPU; 0 loads in the main process.
        on_error: Whether bad records and unreadable images raise, or are left out, counted and logged.

    Attributes:
        train_dataset: The training split, after `setup("fit")`.
        val_dataset: The validation split, after `setup`.
        class_names: Names of the classes by label, after `setup`.

    Raises:
        InputError: If a number is out of range, the folder is not there, or the data set cannot be used.
    """

    train_dataset: ImageDataset[Sample]
    val_dataset: ImageDataset[Sample]
    class_names: tuple[str, ...]

    def __init__(
        self,
        root: str,
        input_size: tuple[int, int],
        train_split: str,
        val_split: str,
        batch_size: int,
        num_workers: int,
        on_error: OnError,
    ) -> None:
        super().__init__()
        if min(*input_size, batch_size) < 1 or num_workers < 0:
            raise InputError(
                f"data: input_size {input_size}, batch_size {batch_size}, num_workers {num_workers};"
                " give sizes from 1 and workers from 0 up"
            )
        self.root = Path(root)
        self.input_size = input_size
        self.train_split, self.val_split = train_split, val_split
        self.batch_size = batch_size
        self.num_workers = min(num_workers, os.cpu_count() or 1)  # more would only wait for each other
        self.on_error: OnError = on_error

    @abstractmethod
    def evaluator(self) -> Evaluator[Any]:
        """Return a new evaluation against the validation split."""

    @abstractmethod
    def read(self, split: str, transform: Transform, *, train: bool) -> ImageDataset[Sample]:
        """Read one split; the training split after the validation split, whose classes it must have."""

    @abstractmethod
    def transform(self, *, train: bool) -> Transform:
        """Return what every sample of a split goes through."""

    @abstractmethod
    def collate_for(self, dataset: ImageDataset[Sample]) -> Callable[[Sequence[Sample | None]], object]:
        """Return what makes a batch of a split's samples; it must pickle, for the workers."""

    @property
    @abstractmethod
    def layout(self) -> str:
        """What belongs in the root, for a message."""

    def setup(self, stage: str) -> None:
        """Read the validation split, and for "fit" the training split."""
        if not self.root.is_dir():
            raise InputError(f"{self.root}: there is no such data set folder; make it, and in it {self.layout}")
        if not hasattr(self, "val_dataset"):
            self.val_dataset = self.read(self.val_split, self.transform(train=False), train=False)
            self.class_names = self.val_dataset.class_names
        if stage == "fit" and not hasattr(self, "train_dataset"):
            self.train_dataset = self.read(self.train_split, self.transform(train=True), train=True)

    def train_dataloader(self) -> DataLoader[Sample | None]:
        """Shuffled batches, all of the same size unless the whole set is smaller than a batch."""
        images_per_device = len(self.train_dataset) // (self.trainer.world_size if self.trainer else 1)
        return self._loader(self.train_dataset, shuffle=True, drop_last=images_per_device >= self.batch_size)

    def val_dataloader(self) -> DataLoader[Sample | None]:
        """Every validation image once, in the split's order."""
        return self._loader(self.val_dataset, shuffle=False, drop_last=False)

    def test_dataloader(self) -> DataLoader[Sample | None]:
        """The same as for validation."""
        return self.val_dataloader()

    def _loader(self, dataset: ImageDataset[Sample], *, shuffle: bool, drop_last: bool) -> DataLoader[Sample | None]:
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            shuffle=shuffle,
            drop_last=drop_last,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            collate_fn=self.collate_for(dataset),
        )
