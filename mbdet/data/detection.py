"""Detection data for the Trainer, batched with static shapes."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from mbdet.data.base import ImageDataModule, ImageDataset, ids_and_sizes, stack_images
from mbdet.data.coco import CocoDetection, check_same_categories, coco_annotations, coco_layout
from mbdet.data.detection_dataset import DetectionDataset, DetectionSample
from mbdet.data.records import OnError
from mbdet.data.transforms import SSD_AUGMENTATION, Augmentation, Transform, eval_transform, train_transform
from mbdet.metrics.coco import CocoEvaluator
from mbdet.types import DetectionBatch, DetectionTargets


class DetectionDataModule(ImageDataModule[DetectionSample, Transform]):
    """What the data modules of all layouts of detection data share.

    Args:
        root: Folder of the data set.
        input_size: Height and width of the network input.
        train_split: Name of the training split.
        val_split: Name of the split that validation and test use.
        batch_size: Images per batch and device.
        num_workers: Processes that load each split, at most one per CPU; 0 loads in the main process.
        on_error: Whether bad boxes, missing and unreadable images raise, or are left out, counted and logged.
        augmentation: How strongly to augment in training; None only resizes.

    Attributes:
        train_dataset: The training split, after `setup("fit")`.
        val_dataset: The validation split, after `setup`.
        class_names: Names of the classes by label, after `setup`.

    Raises:
        InputError: If a number is out of range, the folder is not there, or the data set cannot be used.
    """

    train_dataset: DetectionDataset
    val_dataset: DetectionDataset

    def __init__(
        self,
        root: str,
        input_size: tuple[int, int],
        train_split: str,
        val_split: str,
        batch_size: int,
        num_workers: int,
        on_error: OnError,
        augmentation: Augmentation | None,
    ) -> None:
        super().__init__(root, input_size, train_split, val_split, batch_size, num_workers, on_error)
        self.augmentation = augmentation

    @abstractmethod
    def evaluator(self) -> CocoEvaluator:
        """Return a new evaluation against the validation split."""

    @abstractmethod
    def read(self, split: str, transform: Transform, *, train: bool) -> DetectionDataset:
        """Read one split."""

    def transform(self, *, train: bool) -> Transform:
        """See `ImageDataModule.transform`."""
        if train and self.augmentation:
            return train_transform(self.input_size, self.augmentation)
        return eval_transform(self.input_size)

    def collate_for(
        self, dataset: ImageDataset[DetectionSample]
    ) -> Callable[[Sequence[DetectionSample | None]], DetectionBatch]:
        """See `ImageDataModule.collate_for`."""
        assert isinstance(dataset, DetectionDataset)
        return partial(collate, input_size=self.input_size, max_objects=dataset.max_objects)


class CocoDataModule(DetectionDataModule):
    """A data set in COCO 2017's layout: `annotations/instances_{split}.json` and a folder of images per split.

    Args:
        root: Folder of the data set.
        input_size: Height and width of the network input.
        train_split: Name of the training split.
        val_split: Name of the split that validation and test use.
        batch_size: Images per batch and device.
        num_workers: Processes that load each split, at most one per CPU; 0 loads in the main process.
        on_error: Whether bad boxes, missing and unreadable images raise, or are left out, counted and logged.
        augmentation: How strongly to augment in training; None only resizes.

    Attributes:
        val_annotations: The annotation file of the validation split, for the evaluation.
        train_dataset: The training split, after `setup("fit")`.
        val_dataset: The validation split, after `setup`.
        class_names: Names of the classes by label, after `setup`.

    Raises:
        InputError: If a number is out of range, the folder or its layout is not there, the splits differ in their
            categories, or the data set cannot be used (see `CocoDetection`).
    """

    train_dataset: CocoDetection
    val_dataset: CocoDetection

    def __init__(
        self,
        root: str,
        input_size: tuple[int, int],
        train_split: str = "train2017",
        val_split: str = "val2017",
        batch_size: int = 32,
        num_workers: int = 4,
        on_error: OnError = "raise",
        augmentation: Augmentation | None = SSD_AUGMENTATION,
    ) -> None:
        super().__init__(root, input_size, train_split, val_split, batch_size, num_workers, on_error, augmentation)
        self.val_annotations = coco_annotations(self.root, val_split)

    def evaluator(self) -> CocoEvaluator:
        """Return a new evaluation against the validation split, which needs no `setup`."""
        return CocoEvaluator(self.val_annotations, skip_bad_boxes=self.on_error == "skip")

    def read(self, split: str, transform: Transform, *, train: bool) -> CocoDetection:
        """Read one split; the training split after the validation split, whose categories it must have.

        Labels are counted per file, so they mean the same in both splits only if the categories are the same.
        """
        annotations = coco_annotations(self.root, split)
        dataset = CocoDetection(annotations, self.root / split, transform, train=train, on_error=self.on_error)
        if train:
            check_same_categories(dataset, self.val_dataset)
        return dataset

    @property
    def layout(self) -> str:
        """What belongs in the root, for a message."""
        return coco_layout(self.train_split, self.val_split)


def collate(samples: Sequence[DetectionSample | None], input_size: tuple[int, int], max_objects: int) -> DetectionBatch:
    """Make a batch of samples, with targets padded to a static number.

    Samples that are None (unreadable images, in evaluation) are left out. A batch may thus be smaller, even of 0
    images, which networks, losses and metrics take like any other.

    Args:
        samples: All with images of the input size.
        input_size: Height and width of the network input.
        max_objects: M, the largest number of objects in any image.

    Returns:
        The batch; its images (B, 3, H, W) are stored HWC (channels_last).
    """
    present = [sample for sample in samples if sample is not None]
    return DetectionBatch(
        stack_images([sample.image for sample in present], input_size),
        pad_targets([(sample.boxes, sample.labels) for sample in present], max_objects),
        *ids_and_sizes(present),
    )


def pad_targets(targets: Sequence[tuple[NDArray[np.float32], NDArray[np.int64]]], max_objects: int) -> DetectionTargets:
    """Pad the boxes (M, 4) and labels (M,) of B images to a static number of M."""
    boxes = np.zeros((len(targets), max_objects, 4), dtype=np.float32)
    labels = np.zeros((len(targets), max_objects), dtype=np.int64)
    valid = np.zeros((len(targets), max_objects), dtype=np.bool_)
    for row, (image_boxes, image_labels) in enumerate(targets):
        count = len(image_labels)
        boxes[row, :count], labels[row, :count] = image_boxes, image_labels
        valid[row, :count] = True
    return DetectionTargets(torch.from_numpy(boxes), torch.from_numpy(labels), torch.from_numpy(valid))
