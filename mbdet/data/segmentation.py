"""Segmentation data for the Trainer, batched."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mbdet.data.base import ImageDataModule, ImageDataset, ids_and_sizes, stack_images
from mbdet.data.records import OnError
from mbdet.data.segmentation_dataset import SegmentationDataset, SegmentationSample
from mbdet.data.segmentation_transforms import (
    SegmentationAugmentation,
    SegmentationEvalTransform,
    SegmentationTrainTransform,
    SegmentationTransform,
)
from mbdet.errors import InputError
from mbdet.metrics.segmentation import SegmentationEvaluator
from mbdet.runtime.image import Resizing
from mbdet.runtime.types import IGNORED
from mbdet.types import SegmentationBatch


class SegmentationDataModule(ImageDataModule[SegmentationSample, SegmentationTransform]):
    """What the data modules of all layouts of segmentation data share.

    Args:
        root: Folder of the data set.
        input_size: Height and width of the network input.
        train_split: Name of the training split.
        val_split: Name of the split that validation and test use.
        batch_size: Images per batch and device.
        num_workers: Processes that load each split, at most one per CPU; 0 loads in the main process.
        on_error: Whether missing and unreadable images and masks raise, or are left out, counted and logged.
        augmentation: How strongly to augment in training; None does as in evaluation.
        resizing: How the evaluation brings images to the network input: "stretch"; or of their own aspect and padded at
            the bottom or right, either resized until they fit exactly ("fit") or only where they are too large ("pad").

    Attributes:
        train_dataset: The training split, after `setup("fit")`.
        val_dataset: The validation split, after `setup`.
        class_names: Names of the classes by label, after `setup`, background among them where the data has one.

    Raises:
        InputError: If a number is out of range, the folder is not there, or the data set cannot be used.
    """

    train_dataset: SegmentationDataset
    val_dataset: SegmentationDataset

    def __init__(
        self,
        root: str,
        input_size: tuple[int, int],
        train_split: str,
        val_split: str,
        batch_size: int,
        num_workers: int,
        on_error: OnError,
        augmentation: SegmentationAugmentation | None,
        resizing: Resizing,
    ) -> None:
        super().__init__(root, input_size, train_split, val_split, batch_size, num_workers, on_error)
        self.augmentation = augmentation
        self.resizing: Resizing = resizing

    def evaluator(self) -> SegmentationEvaluator:
        """Return a new evaluation against the validation split, after `setup`."""
        data = self.val_dataset
        files = {image_id: str(data.file(index)) for index, image_id in enumerate(data.image_ids.tolist())}
        return SegmentationEvaluator(files, self.class_names)

    @abstractmethod
    def read(self, split: str, transform: SegmentationTransform, *, train: bool) -> SegmentationDataset:
        """Read one split."""

    def transform(self, *, train: bool) -> SegmentationTransform:
        """See `ImageDataModule.transform`."""
        if train and self.augmentation:
            return SegmentationTrainTransform(self.input_size, self.resizing, self.augmentation)
        return SegmentationEvalTransform(self.input_size, self.resizing)

    def collate_for(
        self, dataset: ImageDataset[SegmentationSample]
    ) -> Callable[[Sequence[SegmentationSample | None]], SegmentationBatch]:
        """See `ImageDataModule.collate_for`."""
        return partial(collate, input_size=self.input_size, keep_originals=not dataset.train)


def collate(
    samples: Sequence[SegmentationSample | None], input_size: tuple[int, int], keep_originals: bool
) -> SegmentationBatch:
    """Make a batch of samples.

    Samples that are None (unreadable images, in evaluation) are left out. A batch may thus be smaller, even of 0
    images, which networks, losses and metrics take like any other.

    Args:
        samples: All with images of the input size.
        input_size: Height and width of the network input.
        keep_originals: Whether the batch has the original masks, which the evaluation scores against.

    Returns:
        The batch; its images (B, 3, H, W) are stored HWC (channels_last).
    """
    present = [sample for sample in samples if sample is not None]
    return SegmentationBatch(
        stack_images([sample.image for sample in present], input_size),
        stack_masks([sample.mask for sample in present], input_size),
        *ids_and_sizes(present),
        [sample.original_mask for sample in present] if keep_originals else [],
    )


def stack_masks(masks: Sequence[NDArray[np.uint8]], input_size: tuple[int, int]) -> Tensor:
    """Make a tensor (B, H, W) of B masks of the input size."""
    stacked = np.empty((len(masks), *input_size), dtype=np.uint8)
    for row, mask in enumerate(masks):
        stacked[row] = mask
    return torch.from_numpy(stacked)


def check_names(class_names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of classes that a user gave.

    Raises:
        InputError: If there is none, or one occurs twice.
    """
    names = tuple(class_names)
    if not names or len(set(names)) < len(names):
        raise InputError(f"data: class_names {', '.join(names) or 'is empty'}; give each class a name of its own")
    if len(names) > IGNORED:
        raise InputError(
            f"data: class_names has {len(names)} names; masks have room for {IGNORED}, as 255 does not count"
        )
    return names
