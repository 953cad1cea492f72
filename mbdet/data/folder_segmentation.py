"""Segmentation data in Cityscapes' layout and in plain folders for the Trainer."""

from collections.abc import Sequence

from mbdet.data.mask_files import MaskFiles
from mbdet.data.mask_layouts import CITYSCAPES_CLASSES, CITYSCAPES_IDS, cityscapes_pairs, folder_pairs
from mbdet.data.records import OnError
from mbdet.data.segmentation import SegmentationDataModule, check_names
from mbdet.data.segmentation_transforms import DEEPLAB_AUGMENTATION, SegmentationAugmentation, SegmentationTransform
from mbdet.errors import InputError
from mbdet.runtime.image import Resizing
from mbdet.runtime.types import IGNORED


class CityscapesDataModule(SegmentationDataModule):
    """Cityscapes: `leftImg8bit/{split}/CITY/*_leftImg8bit.png` and `gtFine/{split}/CITY/*_gtFine_labelIds.png`.

    Of its 34 ids, the 19 classes that the benchmark evaluates count.

    Args:
        root: Folder of the data set.
        input_size: Height and width of the network input.
        train_split: Name of the training split.
        val_split: Name of the split that validation and test use.
        batch_size: Images per batch and device.
        num_workers: Processes that load each split, at most one per CPU; 0 loads in the main process.
        on_error: Whether missing and unreadable images and masks raise, or are left out, counted and logged.
        augmentation: How strongly to augment in training; None does as in evaluation.
        resizing: How the evaluation brings images to the network input, see `SegmentationDataModule`.

    Attributes:
        train_dataset: The training split, after `setup("fit")`.
        val_dataset: The validation split, after `setup`.
        class_names: Names of the 19 classes by label.

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
        batch_size: int = 16,
        num_workers: int = 4,
        on_error: OnError = "raise",
        augmentation: SegmentationAugmentation | None = DEEPLAB_AUGMENTATION,
        resizing: Resizing = "stretch",
    ) -> None:
        super().__init__(
            root, input_size, train_split, val_split, batch_size, num_workers, on_error, augmentation, resizing
        )
        self.class_names = tuple(CITYSCAPES_CLASSES.values())

    def read(self, split: str, transform: SegmentationTransform, *, train: bool) -> MaskFiles:
        """Read one split."""
        train_ids = {value: label for label, value in enumerate(CITYSCAPES_CLASSES)}
        return MaskFiles(
            self.root,
            cityscapes_pairs(self.root, split),
            self.class_names,
            {value: train_ids.get(value, IGNORED) for value in range(CITYSCAPES_IDS)},
            self.root / "leftImg8bit" / split,
            transform,
            train=train,
            on_error=self.on_error,
        )

    @property
    def layout(self) -> str:
        """What belongs in the root, for a message."""
        return f"leftImg8bit/ and gtFine/, each with {self.train_split}/ and {self.val_split}/"


class FolderSegmentationDataModule(SegmentationDataModule):
    """Folders of images and of masks with the same names, as CamVid has them.

    Args:
        root: Folder of the data set.
        input_size: Height and width of the network input.
        class_names: Names of the K classes in the order of their values in the masks.
        train_split: Name of the training split.
        val_split: Name of the split that validation and test use.
        images: Folder of a split's images, where "{split}" stands for its name.
        masks: Folder of its masks, likewise.
        mask_suffix: What the name of a mask has after that of its image, before the dot.
        first_value: Value of the first class in the masks.
        ignore: Values that do not count, beside 255.
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
        class_names: Sequence[str],
        train_split: str = "train",
        val_split: str = "val",
        images: str = "{split}",
        masks: str = "{split}annot",
        mask_suffix: str = "",
        first_value: int = 0,
        ignore: Sequence[int] = (),
        batch_size: int = 16,
        num_workers: int = 4,
        on_error: OnError = "raise",
        augmentation: SegmentationAugmentation | None = DEEPLAB_AUGMENTATION,
        resizing: Resizing = "stretch",
    ) -> None:
        super().__init__(
            root, input_size, train_split, val_split, batch_size, num_workers, on_error, augmentation, resizing
        )
        self.class_names = check_names(class_names)
        self.images = images
        self.masks = masks
        self.mask_suffix = mask_suffix
        self.labels = _labels(len(self.class_names), first_value, ignore)

    def read(self, split: str, transform: SegmentationTransform, *, train: bool) -> MaskFiles:
        """Read one split."""
        images, masks = (folder.replace("{split}", split) for folder in (self.images, self.masks))
        return MaskFiles(
            self.root,
            folder_pairs(self.root, images, masks, self.mask_suffix),
            self.class_names,
            self.labels,
            self.root / images,
            transform,
            train=train,
            on_error=self.on_error,
        )

    @property
    def layout(self) -> str:
        """What belongs in the root, for a message."""
        return " and ".join(
            f"{folder.replace('{split}', split)}/"
            for split in (self.train_split, self.val_split)
            for folder in (self.images, self.masks)
        )


def _labels(num_classes: int, first_value: int, ignore: Sequence[int]) -> dict[int, int]:
    """Label of each value in a mask."""
    values = range(first_value, first_value + num_classes)
    wrong = [value for value in ignore if value in values or not 0 <= value <= IGNORED]
    if first_value < 0 or values[-1] >= IGNORED or wrong:
        raise InputError(
            f"data: the {num_classes} classes have the values {values[0]} to {values[-1]} and ignore is"
            f" {list(ignore)}; give values from 0 to 255, classes less than 255, and none for both"
        )
    return {value: label for label, value in enumerate(values)} | dict.fromkeys(ignore, IGNORED)
