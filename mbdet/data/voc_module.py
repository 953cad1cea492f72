"""Pascal VOC data for the Trainer."""

from collections.abc import Sequence

from mbdet.data.detection import DetectionDataModule
from mbdet.data.records import OnError
from mbdet.data.transforms import SSD_AUGMENTATION, Augmentation, Transform
from mbdet.data.voc import VocDetection
from mbdet.data.voc_records import VocRecords, read_voc
from mbdet.errors import InputError
from mbdet.metrics.voc import VocEvaluator


class VocDataModule(DetectionDataModule):
    """A data set in Pascal VOC's layout: `Annotations/*.xml`, `JPEGImages` and `ImageSets/{image_set}/{split}.txt`.

    Objects marked as difficult are ignored in the evaluation, neither wanted nor wrong to find.

    Args:
        root: Folder of the data set.
        input_size: Height and width of the network input.
        train_split: Name of the training split. It may be several, joined by "+", and each may be preceded by its
            folder: "VOC2007/trainval+VOC2012/trainval" in the root VOCdevkit.
        val_split: Likewise the split that validation and test use.
        class_names: Names of the classes in the order of the labels; by default those that occur in the two splits,
            sorted, which gives VOC its usual order.
        train_difficult: Whether difficult objects are training targets too.
        image_set: Folder of the lists of images: "Main", or "Segmentation" for the fewer images that have masks too.
        batch_size: Images per batch and device.
        num_workers: Processes that load each split, at most one per CPU; 0 loads in the main process.
        on_error: Whether bad boxes, missing and unreadable files raise, or are left out, counted and logged.
        augmentation: How strongly to augment in training; None only resizes.

    Attributes:
        train_dataset: The training split, after `setup("fit")`.
        val_dataset: The validation split, after `setup`. Its image ids count the images of the split from 0.
        class_names: Names of the classes by label, after `setup`.

    Raises:
        InputError: If a number is out of range, the folder or its layout is not there, or the data set cannot be used
            (see `read_voc`).
    """

    train_dataset: VocDetection
    val_dataset: VocDetection

    def __init__(
        self,
        root: str,
        input_size: tuple[int, int],
        train_split: str = "trainval",
        val_split: str = "test",
        class_names: Sequence[str] | None = None,
        train_difficult: bool = False,
        image_set: str = "Main",
        batch_size: int = 32,
        num_workers: int = 4,
        on_error: OnError = "raise",
        augmentation: Augmentation | None = SSD_AUGMENTATION,
    ) -> None:
        super().__init__(root, input_size, train_split, val_split, batch_size, num_workers, on_error, augmentation)
        self._given_names = tuple(class_names or ())
        if len(set(self._given_names)) < len(self._given_names):
            raise InputError(f"data: class_names {', '.join(self._given_names)} repeats a name; give each class one")
        self.train_difficult = train_difficult
        self.image_set = image_set
        self._records: dict[str, VocRecords] = {}

    def evaluator(self) -> VocEvaluator:
        """Return a new evaluation against the validation split, after `setup`."""
        listed = len(self._read_records(self.val_split).annotations)
        return VocEvaluator(self.val_dataset.source, document=self.val_dataset.to_coco(), listed=listed)

    def read(self, split: str, transform: Transform, *, train: bool) -> VocDetection:
        """Read one split, and for the names of the classes both, unless they were given."""
        return VocDetection(
            self._read_records(split),
            self._given_names or self._find_names(),
            transform,
            train=train,
            on_error=self.on_error,
            difficult=self.train_difficult,
        )

    @property
    def layout(self) -> str:
        """What belongs in the root, for a message."""
        return (
            f"Annotations/, JPEGImages/ and ImageSets/{self.image_set}/, or one such folder per year (splits"
            f" {self.train_split} and {self.val_split})"
        )

    def _find_names(self) -> tuple[str, ...]:
        splits = (self.train_split, self.val_split)
        names = {object_.class_name for split in splits for object_ in self._read_records(split).objects}
        if not names:
            raise InputError(f"{self.root}: no object in {' or '.join(splits)} could name a class; give class_names")
        return tuple(sorted(names))

    def _read_records(self, split: str) -> VocRecords:
        if split not in self._records:
            self._records[split] = read_voc(self.root, split, self.on_error, self.image_set)
        return self._records[split]
