"""Classification data for the Trainer: folders of images, batched."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch

from mbdet.data.base import ImageDataModule, ImageDataset
from mbdet.data.crops import INCEPTION_AUGMENTATION, CropAugmentation, EvalTransform, TrainTransform
from mbdet.data.image_folder import ClassificationSample, ImageFolder, ImageTransform
from mbdet.data.records import OnError
from mbdet.errors import InputError
from mbdet.metrics.classification import ClassificationEvaluator
from mbdet.types import ClassificationBatch


class ImageFolderDataModule(ImageDataModule[ClassificationSample, ImageTransform]):
    """A data set in ImageFolder's layout: `{split}/{class}/` with the pictures of the class, for each split.

    Args:
        root: Folder of the data set.
        input_size: Height and width of the network input.
        train_split: Name of the training split.
        val_split: Name of the split that validation and test use.
        batch_size: Images per batch and device.
        num_workers: Processes that load each split, at most one per CPU; 0 loads in the main process.
        on_error: Whether unreadable images raise, or are left out, counted and logged.
        augmentation: How strongly to augment in training; None does as in evaluation.
        eval_crop: In evaluation, side of the central part of an image that counts, in sides of the image.

    Attributes:
        train_dataset: The training split, after `setup("fit")`.
        val_dataset: The validation split, after `setup`.
        class_names: Names of the classes by label, after `setup`: their folders' names, sorted.

    Raises:
        InputError: If a number is out of range, the folder or its layout is not there, or the splits differ in their
            classes.
    """

    train_dataset: ImageFolder
    val_dataset: ImageFolder

    def __init__(
        self,
        root: str,
        input_size: tuple[int, int] = (224, 224),
        train_split: str = "train",
        val_split: str = "val",
        batch_size: int = 32,
        num_workers: int = 4,
        on_error: OnError = "raise",
        augmentation: CropAugmentation | None = INCEPTION_AUGMENTATION,
        eval_crop: float = 0.875,
    ) -> None:
        super().__init__(root, input_size, train_split, val_split, batch_size, num_workers, on_error)
        if not 0 < eval_crop <= 1:
            raise InputError(f"data: eval_crop is {eval_crop}; give a number above 0 and at most 1")
        self.augmentation = augmentation
        self.eval_crop = eval_crop

    def evaluator(self) -> ClassificationEvaluator:
        """Return a new evaluation against the validation split, after `setup`."""
        files = [str(self.val_dataset.file(index)) for index in range(len(self.val_dataset))]
        return ClassificationEvaluator(files, self.val_dataset.labels, self.class_names)

    def read(self, split: str, transform: ImageTransform, *, train: bool) -> ImageFolder:
        """Read one split; the training split after the validation split, whose classes it must have.

        Labels are counted per split, so they mean the same in both only if the class folders are the same.
        """
        dataset = ImageFolder(self.root / split, transform, train=train, on_error=self.on_error)
        if train:
            for one, other in ((dataset, self.val_dataset), (self.val_dataset, dataset)):
                extra = sorted(set(one.class_names) - set(other.class_names))
                if extra:
                    raise InputError(
                        f"{one.images / extra[0]}: {other.images} has no such class folder ({len(extra)} of"
                        f" {len(one.class_names)} differ); give both splits the same"
                    )
        return dataset

    def transform(self, *, train: bool) -> ImageTransform:
        """See `ImageDataModule.transform`."""
        if train and self.augmentation:
            return TrainTransform(self.input_size, self.augmentation)
        return EvalTransform(self.input_size, self.eval_crop)

    def collate_for(
        self, dataset: ImageDataset[ClassificationSample]
    ) -> Callable[[Sequence[ClassificationSample | None]], ClassificationBatch]:
        """See `ImageDataModule.collate_for`."""
        return partial(collate, input_size=self.input_size)

    @property
    def layout(self) -> str:
        """What belongs in the root, for a message."""
        return f"{self.train_split}/ and {self.val_split}/ with a folder of pictures for each class"


def collate(samples: Sequence[ClassificationSample | None], input_size: tuple[int, int]) -> ClassificationBatch:
    """Make a batch of samples.

    Samples that are None (unreadable images, in evaluation) are left out. A batch may thus be smaller, even of 0
    images, which networks, losses and metrics take like any other.

    Args:
        samples: All with images of the input size.
        input_size: Height and width of the network input.

    Returns:
        The batch; its images (B, 3, H, W) are stored HWC (channels_last).
    """
    present = [sample for sample in samples if sample is not None]
    images = np.empty((len(present), *input_size, 3), dtype=np.uint8)
    for row, sample in enumerate(present):
        images[row] = sample.image
    return ClassificationBatch(
        torch.from_numpy(images).permute(0, 3, 1, 2),
        torch.tensor([sample.label for sample in present], dtype=torch.int64),
        torch.tensor([sample.image_id for sample in present], dtype=torch.int64),
        torch.tensor([sample.size for sample in present], dtype=torch.int64).reshape(-1, 2),
    )
