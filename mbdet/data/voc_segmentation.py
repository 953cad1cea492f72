"""Segmentation data in Pascal VOC's layout for the Trainer, the built-in set among it."""

from collections.abc import Sequence
from pathlib import Path

from mbdet.data.mask_files import MaskFiles
from mbdet.data.mask_layouts import VOC_CLASSES, voc_pairs
from mbdet.data.records import OnError
from mbdet.data.segmentation import SegmentationDataModule, check_names
from mbdet.data.segmentation_transforms import DEEPLAB_AUGMENTATION, SegmentationAugmentation, SegmentationTransform
from mbdet.data.shapes import CLASS_NAMES, make_shapes
from mbdet.data.voc_records import list_of
from mbdet.runtime.image import Resizing


class VocSegmentationDataModule(SegmentationDataModule):
    """A data set in Pascal VOC's layout: `JPEGImages`, `SegmentationClass` and `ImageSets/Segmentation/{split}.txt`.

    The 10,582 training images of most publications are VOC's with those of SBD: `train_split="train_aug"` and
    `train_masks="SegmentationClassAug"`.

    Args:
        root: Folder of the data set.
        input_size: Height and width of the network input.
        train_split: Name of the training split. It may be several, joined by "+", and each may be preceded by its
            folder: "VOC2007/trainval+VOC2012/trainval" in the root VOCdevkit.
        val_split: Likewise the split that validation and test use.
        train_masks: Folder of the training split's masks.
        class_names: Names of the classes by their value in the masks, background first.
        batch_size: Images per batch and device.
        num_workers: Processes that load each split, at most one per CPU; 0 loads in the main process.
        on_error: Whether missing and unreadable images and masks raise, or are left out, counted and logged.
        augmentation: How strongly to augment in training; None does as in evaluation.
        resizing: How the evaluation brings images to the network input, see `SegmentationDataModule`.

    Attributes:
        train_dataset: The training split, after `setup("fit")`.
        val_dataset: The validation split, after `setup`.
        class_names: As given.

    Raises:
        InputError: If a number is out of range, the folder or its layout is not there, or the data set cannot be used.
    """

    train_dataset: MaskFiles
    val_dataset: MaskFiles

    def __init__(
        self,
        root: str,
        input_size: tuple[int, int],
        train_split: str = "train",
        val_split: str = "val",
        train_masks: str = "SegmentationClass",
        class_names: Sequence[str] = VOC_CLASSES,
        batch_size: int = 16,
        num_workers: int = 4,
        on_error: OnError = "raise",
        augmentation: SegmentationAugmentation | None = DEEPLAB_AUGMENTATION,
        resizing: Resizing = "stretch",
    ) -> None:
        super().__init__(
            root, input_size, train_split, val_split, batch_size, num_workers, on_error, augmentation, resizing
        )
        self.train_masks = train_masks
        self.class_names = check_names(class_names)

    def read(self, split: str, transform: SegmentationTransform, *, train: bool) -> MaskFiles:
        """Read one split."""
        return MaskFiles(
            self.root,
            voc_pairs(self.root, split, self.train_masks if train else "SegmentationClass"),
            self.class_names,
            {value: value for value in range(len(self.class_names))},
            list_of(self.root, split, "Segmentation"),
            transform,
            train=train,
            on_error=self.on_error,
        )

    @property
    def layout(self) -> str:
        """What belongs in the root, for a message."""
        return (
            f"JPEGImages/, SegmentationClass/ and ImageSets/Segmentation/ with the splits {self.train_split} and"
            f" {self.val_split}"
        )


class ShapesSegmentationDataModule(VocSegmentationDataModule):
    """Scenes of shapes, drawn on first use: six classes and background.

    Args:
        root: Folder to draw them into.
        input_size: Height and width of the network input.
        seed: Of the scenes.
        num_train: Training images.
        num_val: Validation images.
        batch_size: Images per batch and device.
        num_workers: Processes that load each split; 0 loads in the main process.
        augmentation: How strongly to augment in training; None only resizes.
    """

    def __init__(
        self,
        root: str,
        input_size: tuple[int, int],
        seed: int = 0,
        num_train: int = 2000,
        num_val: int = 160,
        batch_size: int = 16,
        num_workers: int = 1,
        augmentation: SegmentationAugmentation | None = DEEPLAB_AUGMENTATION,
    ) -> None:
        super().__init__(
            str(Path(root) / "VOC"),
            input_size,
            class_names=("background", *CLASS_NAMES),
            batch_size=batch_size,
            num_workers=num_workers,
            augmentation=augmentation,
        )
        self.seed = seed
        self.num_train = num_train
        self.num_val = num_val

    def prepare_data(self) -> None:
        """Draw the scenes unless they are there."""
        make_shapes(self.root.parent, seed=self.seed, num_train=self.num_train, num_val=self.num_val)
