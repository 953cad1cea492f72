"""Data for two heads for the Trainer: images with boxes and masks, or one set with boxes and one with masks."""

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import CombinedLoader
from torch.utils.data import ConcatDataset

from mbdet.data.base import ImageDataModule, ImageDataset, ids_and_sizes, stack_images
from mbdet.data.detection import DetectionDataModule, pad_targets
from mbdet.data.detection_dataset import DetectionSample
from mbdet.data.multitask_dataset import MultiTaskDataset, MultiTaskSample
from mbdet.data.segmentation import SegmentationDataModule, stack_masks
from mbdet.data.segmentation_dataset import SegmentationSample
from mbdet.data.transforms import Augmentation, Transform, eval_transform, train_transform
from mbdet.errors import InputError
from mbdet.metrics.multitask import MultiTaskEvaluator
from mbdet.metrics.segmentation import SegmentationEvaluator
from mbdet.types import MultiTaskBatch, TwoBatches


class MultiTaskDataModule(ImageDataModule[MultiTaskSample, Transform]):
    """A data set whose images have boxes and masks, in the layouts of two data modules.

    Subclass it for a layout of your own: its constructor makes the two.

    Args:
        detection: Reads boxes. Sizes, splits, loading and errors are as it says, in `segmentation` too.
        segmentation: Reads masks of the same images.
        augmentation: How strongly to augment in training, image, boxes and mask alike; None only resizes.

    Attributes:
        train_dataset: The training split, after `setup("fit")`.
        val_dataset: The validation split, after `setup`.
        class_names: Names of the objects' classes by label, after `setup`.
        segment_names: Names of the pixels' classes, after `setup`, background among them where the data has one.

    Raises:
        InputError: If the data set cannot be used, see `MultiTaskDataset`.
    """

    train_dataset: MultiTaskDataset
    val_dataset: MultiTaskDataset
    segment_names: tuple[str, ...]

    def __init__(
        self,
        detection: DetectionDataModule,
        segmentation: SegmentationDataModule,
        augmentation: Augmentation | None,
    ) -> None:
        super().__init__(
            str(detection.root),
            detection.input_size,
            detection.train_split,
            detection.val_split,
            detection.batch_size,
            detection.num_workers,
            detection.on_error,
        )
        self.detection, self.segmentation = detection, segmentation
        self.augmentation = augmentation

    def prepare_data(self) -> None:
        """Do what both data modules do."""
        self.detection.prepare_data()
        self.segmentation.prepare_data()

    def setup(self, stage: str) -> None:
        """Read the validation split, and for "fit" the training split."""
        super().setup(stage)
        self.segment_names = self.val_dataset.segment_names

    def evaluator(self) -> MultiTaskEvaluator:
        """Return a new evaluation against the validation split, after `setup`."""
        data = self.val_dataset
        files = {image_id: str(data.file(index)) for index, image_id in enumerate(data.image_ids.tolist())}
        masks = SegmentationEvaluator(files, self.segment_names)
        return MultiTaskEvaluator(self.detection.evaluator(), masks, masks.listed)

    def read(self, split: str, transform: Transform, *, train: bool) -> MultiTaskDataset:
        """Read one split."""
        boxes, masks = self.detection, self.segmentation
        for part in (boxes, masks):
            part.setup("fit" if train else "validate")
        return MultiTaskDataset(
            boxes.train_dataset if train else boxes.val_dataset,
            masks.train_dataset if train else masks.val_dataset,
            transform,
            train=train,
            on_error=self.on_error,
            identify=self.identify,
        )

    def identify(self, file: Path) -> Hashable:
        """Return what tells from a file which image it is; the same file in both layouts, unless a subclass differs."""
        return file

    def transform(self, *, train: bool) -> Transform:
        """See `ImageDataModule.transform`."""
        if train and self.augmentation:
            return train_transform(self.input_size, self.augmentation)
        return eval_transform(self.input_size)

    def collate_for(
        self, dataset: ImageDataset[MultiTaskSample]
    ) -> Callable[[Sequence[MultiTaskSample | None]], MultiTaskBatch]:
        """See `ImageDataModule.collate_for`."""
        assert isinstance(dataset, MultiTaskDataset)
        return partial(
            collate,
            input_size=self.input_size,
            max_objects=dataset.max_objects,
            keep_originals=not dataset.train,
        )

    @property
    def layout(self) -> str:
        """What belongs in the root, for a message."""
        return f"{self.detection.layout}; for the masks {self.segmentation.layout}"


class TwoSetsDataModule(LightningDataModule):
    """One data set with boxes and another with masks: a batch of each in every step.

    The shorter set starts anew until the longer one ends. Everything else is as the two data modules have it, the
    number of images per batch among it. A head learns of its own set alone, the backbone of both.

    Args:
        detection: The set with boxes.
        segmentation: The set with masks; it stretches its images, as the set with boxes does.

    Attributes:
        class_names: Names of the objects' classes by label, after `setup`.
        segment_names: Names of the pixels' classes, after `setup`, background among them where the data has one.
        val_dataset: All images of both validation splits, after `setup`.

    Raises:
        InputError: If the sets are not brought to the same network input in the same way.
    """

    class_names: tuple[str, ...]
    segment_names: tuple[str, ...]
    val_dataset: "ConcatDataset[DetectionSample | SegmentationSample | None]"

    def __init__(self, detection: DetectionDataModule, segmentation: SegmentationDataModule) -> None:
        super().__init__()
        if tuple(detection.input_size) != tuple(segmentation.input_size):
            raise InputError(
                f"data.detection.input_size is {tuple(detection.input_size)}, data.segmentation.input_size is"
                f" {tuple(segmentation.input_size)}; give both the same height and width"
            )
        if segmentation.resizing != "stretch":
            raise InputError(f"data.segmentation.resizing is {segmentation.resizing}; boxes need stretch")
        self.detection, self.segmentation = detection, segmentation
        self.input_size = detection.input_size

    def prepare_data(self) -> None:
        """Do what both data modules do."""
        self.detection.prepare_data()
        self.segmentation.prepare_data()

    def setup(self, stage: str) -> None:
        """Read the validation splits, and for "fit" the training splits."""
        for part in (self.detection, self.segmentation):
            part.trainer = self.trainer  # tells over how many devices a set is spread
            part.setup(stage)
        self.class_names, self.segment_names = self.detection.class_names, self.segmentation.class_names
        self.val_dataset = ConcatDataset([self.detection.val_dataset, self.segmentation.val_dataset])

    def evaluator(self) -> MultiTaskEvaluator:
        """Return a new evaluation, of each head against the validation split of its set, after `setup`."""
        detection, segmentation = self.detection.evaluator(), self.segmentation.evaluator()
        return MultiTaskEvaluator(detection, segmentation, detection.listed + segmentation.listed)

    def train_dataloader(self) -> CombinedLoader:
        """Shuffled batches, `TwoBatches` each."""
        detection, segmentation = self.detection.train_dataloader(), self.segmentation.train_dataloader()
        return CombinedLoader(_structure(detection, segmentation), "max_size_cycle")

    def val_dataloader(self) -> CombinedLoader:
        """Every validation image once: `TwoBatches` in which None stands for a set that has ended."""
        detection, segmentation = self.detection.val_dataloader(), self.segmentation.val_dataloader()
        return CombinedLoader(_structure(detection, segmentation), "max_size")

    def test_dataloader(self) -> CombinedLoader:
        """The same as for validation."""
        return self.val_dataloader()


def _structure(detection: Any, segmentation: Any) -> TwoBatches:
    """Put two loaders where `CombinedLoader` puts their batches."""
    return TwoBatches(detection, segmentation)


def collate(
    samples: Sequence[MultiTaskSample | None], input_size: tuple[int, int], max_objects: int, keep_originals: bool
) -> MultiTaskBatch:
    """Make a batch of samples, with targets padded to a static number.

    Samples that are None (unreadable images, in evaluation) are left out, as in the batches of single tasks.

    Args:
        samples: All with images of the input size.
        input_size: Height and width of the network input.
        max_objects: M, the largest number of objects in any image.
        keep_originals: Whether the batch has the original masks, which the evaluation scores against.

    Returns:
        The batch; its images (B, 3, H, W) are stored HWC (channels_last).
    """
    present = [sample for sample in samples if sample is not None]
    return MultiTaskBatch(
        stack_images([sample.image for sample in present], input_size),
        pad_targets([(sample.boxes, sample.labels) for sample in present], max_objects),
        stack_masks([sample.mask for sample in present], input_size),
        *ids_and_sizes(present),
        [sample.original_mask for sample in present] if keep_originals else [],
    )
