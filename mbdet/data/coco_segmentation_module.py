"""COCO's instances as segmentation data for the Trainer."""

from mbdet.data.coco import check_same_categories, coco_annotations, coco_layout
from mbdet.data.coco_segmentation import CocoSegmentation
from mbdet.data.records import OnError
from mbdet.data.segmentation import SegmentationDataModule
from mbdet.data.segmentation_transforms import DEEPLAB_AUGMENTATION, SegmentationAugmentation, SegmentationTransform
from mbdet.runtime.image import Resizing


class CocoSegmentationDataModule(SegmentationDataModule):
    """A data set in COCO 2017's layout, its objects painted as classes: see `CocoSegmentation`.

    Args:
        root: Folder of the data set.
        input_size: Height and width of the network input.
        train_split: Name of the training split.
        val_split: Name of the split that validation and test use.
        voc_labels: Whether the classes are Pascal VOC's 21, as in torchvision's reference, and not background and the
            file's own categories.
        batch_size: Images per batch and device.
        num_workers: Processes that load each split, at most one per CPU; 0 loads in the main process.
        on_error: Whether bad boxes, missing and unreadable images raise, or are left out, counted and logged.
        augmentation: How strongly to augment in training; None does as in evaluation.
        resizing: How the evaluation brings images to the network input, see `SegmentationDataModule`.

    Attributes:
        train_dataset: The training split, after `setup("fit")`.
        val_dataset: The validation split, after `setup`.
        class_names: Names of the classes by label, after `setup`.

    Raises:
        InputError: If a number is out of range, the folder or its layout is not there, the splits differ in their
            categories, or the data set cannot be used.
    """

    train_dataset: CocoSegmentation
    val_dataset: CocoSegmentation

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
        augmentation: SegmentationAugmentation | None = DEEPLAB_AUGMENTATION,
        resizing: Resizing = "stretch",
    ) -> None:
        super().__init__(
            root, input_size, train_split, val_split, batch_size, num_workers, on_error, augmentation, resizing
        )
        self.voc_labels = voc_labels

    def read(self, split: str, transform: SegmentationTransform, *, train: bool) -> CocoSegmentation:
        """Read one split; the training split after the validation split, whose categories it must have."""
        dataset = CocoSegmentation(
            coco_annotations(self.root, split),
            self.root / split,
            transform,
            voc_labels=self.voc_labels,
            train=train,
            on_error=self.on_error,
        )
        if train:
            check_same_categories(dataset.objects, self.val_dataset.objects)
        return dataset

    @property
    def layout(self) -> str:
        """What belongs in the root, for a message."""
        return coco_layout(self.train_split, self.val_split)
