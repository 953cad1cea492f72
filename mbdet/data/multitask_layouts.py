"""Data for two heads in the layouts of Pascal VOC and COCO, and the built-in set."""

from collections.abc import Hashable, Sequence
from pathlib import Path

from mbdet.data.coco_segmentation_module import CocoSegmentationDataModule
from mbdet.data.detection import CocoDataModule
from mbdet.data.mask_layouts import VOC_CLASSES
from mbdet.data.multitask import MultiTaskDataModule
from mbdet.data.records import OnError
from mbdet.data.shapes_module import ShapesDataModule
from mbdet.data.transforms import SSD_AUGMENTATION, Augmentation
from mbdet.data.voc_module import VocDataModule
from mbdet.data.voc_segmentation import ShapesSegmentationDataModule, VocSegmentationDataModule


class VocMultiTaskDataModule(MultiTaskDataModule):
    """The images of `ImageSets/Segmentation/{split}.txt` in Pascal VOC's layout, which have masks and boxes.

    Args:
        root: Folder of the data set.
        input_size: Height and width of the network input.
        train_split: Name of the training split. It may be several, joined by "+", and each may be preceded by its
            folder: "VOC2007/trainval+VOC2012/trainval" in the root VOCdevkit.
        val_split: Likewise the split that validation and test use.
        train_masks: Folder of the training split's masks, see `VocSegmentationDataModule`.
        class_names: Names of the classes by their value in the masks, background first; objects have the others.
        train_difficult: Whether difficult objects are training targets too.
        batch_size: Images per batch and device.
        num_workers: Processes that load each split, at most one per CPU; 0 loads in the main process.
        on_error: Whether bad boxes, missing and unreadable files raise, or are left out, counted and logged.
        augmentation: How strongly to augment in training; None only resizes.
    """

    def __init__(
        self,
        root: str,
        input_size: tuple[int, int],
        train_split: str = "train",
        val_split: str = "val",
        train_masks: str = "SegmentationClass",
        class_names: Sequence[str] = VOC_CLASSES,
        train_difficult: bool = False,
        batch_size: int = 16,
        num_workers: int = 4,
        on_error: OnError = "raise",
        augmentation: Augmentation | None = SSD_AUGMENTATION,
    ) -> None:
        boxes = VocDataModule(
            root,
            input_size,
            train_split,
            val_split,
            class_names[1:],
            train_difficult,
            "Segmentation",
            batch_size,
            num_workers,
            on_error,
        )
        masks = VocSegmentationDataModule(
            root, input_size, train_split, val_split, train_masks, class_names, on_error=on_error
        )
        super().__init__(boxes, masks, augmentation)


class CocoMultiTaskDataModule(MultiTaskDataModule):
    """A data set in COCO 2017's layout, its objects also painted as classes: see `CocoSegmentation`.

    Args:
        root: Folder of the data set.
        input_size: Height and width of the network input.
        train_split: Name of the training split.
        val_split: Name of the split that validation and test use.
        voc_labels: Whether the pixels' classes are Pascal VOC's 21, see `CocoSegmentation`; the objects' are the file's
            own categories all the same.
        batch_size: Images per batch and device.
        num_workers: Processes that load each split, at most one per CPU; 0 loads in the main process.
        on_error: Whether bad boxes, missing and unreadable images raise, or are left out, counted and logged.
        augmentation: How strongly to augment in training; None only resizes.
    """

    def __init__(
        self,
        root: str,
        input_size: tuple[int, int],
        train_split: str = "train2017",
        val_split: str = "val2017",
        voc_labels: bool = False,
        batch_size: int = 16,
        num_workers: int = 4,
        on_error: OnError = "raise",
        augmentation: Augmentation | None = SSD_AUGMENTATION,
    ) -> None:
        super().__init__(
            CocoDataModule(root, input_size, train_split, val_split, batch_size, num_workers, on_error),
            CocoSegmentationDataModule(root, input_size, train_split, val_split, voc_labels, on_error=on_error),
            augmentation,
        )


class ShapesMultiTaskDataModule(MultiTaskDataModule):
    """Scenes of shapes, drawn on first use: boxes of six classes, masks of these and background.

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
        augmentation: Augmentation | None = SSD_AUGMENTATION,
    ) -> None:
        super().__init__(
            ShapesDataModule(root, input_size, seed, num_train, num_val, batch_size, num_workers),
            ShapesSegmentationDataModule(root, input_size, seed, num_train, num_val),
            augmentation,
        )

    def identify(self, file: Path) -> Hashable:
        """Return the name of an image, which lies in both layouts."""
        return file.name
