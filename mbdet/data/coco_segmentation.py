"""COCO's instances as a class for every pixel."""

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mbdet.data.coco import CocoDetection
from mbdet.data.mask_layouts import VOC_CLASSES
from mbdet.data.records import OnError
from mbdet.data.segmentation_dataset import SegmentationDataset
from mbdet.data.segmentation_transforms import SegmentationTransform
from mbdet.errors import InputError
from mbdet.runtime.types import IGNORED

logger = logging.getLogger(__name__)

# COCO's categories that are VOC's classes 1 to 20. Source: torchvision's references/segmentation/coco_utils.py.
_VOC_CATEGORIES = (5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72)
_MIN_AREA = 1000  # pixels, in the same file


class CocoSegmentation(SegmentationDataset):
    """Images of a COCO annotation file, with background as class 0 and the categories after it.

    Pixels of more than one object, and be they of the same class, do not count; crowds are objects like others. Both
    are as torchvision's reference has them.

    Args:
        annotations: The `instances_*.json`.
        images: Folder that its file names are relative to.
        transform: What every sample goes through; None leaves image and mask as they are.
        voc_labels: Whether the classes are Pascal VOC's 21 instead: the categories that VOC has not are background,
            and in training, images whose objects of the others have no more than 1000 pixels are left out.
        train: What becomes of an image that turns out unreadable under `on_error="skip"`: in training the next readable
            one takes its place, otherwise its sample is None.
        on_error: Whether bad boxes and missing images raise, or are left out, counted and logged.

    Attributes:
        image_ids: (N,) the file's id of each image.
        objects: All objects of the file.

    Raises:
        InputError: If the file or a record cannot be used, or has not VOC's categories though `voc_labels` is set.
    """

    def __init__(
        self,
        annotations: Path,
        images: Path,
        transform: SegmentationTransform | None = None,
        *,
        voc_labels: bool = False,
        train: bool = False,
        on_error: OnError = "raise",
    ) -> None:
        # The objects of an image are read as for detection, boxes and all, and then painted.
        self.objects = CocoDetection(annotations, images, on_error=on_error, masks=True, crowds=True)
        self._kept = np.arange(len(self.objects))
        if voc_labels:
            self._classes = _voc_classes(annotations, self.objects.category_ids)
            if train:
                self._kept = np.flatnonzero(self.objects.areas(np.flatnonzero(self._classes).tolist()) > _MIN_AREA)
                logger.info("%s: %d of %d images show VOC's classes", annotations, len(self._kept), len(self.objects))
                if not len(self._kept):
                    raise InputError(
                        f"{annotations}: no image shows more than {_MIN_AREA} pixels of VOC's classes; set voc_labels"
                        " to false"
                    )
        else:
            self._classes = np.arange(1, len(self.objects.category_ids) + 1)
        names = VOC_CLASSES if voc_labels else ("background", *self.objects.class_names)
        if len(names) > IGNORED:
            raise InputError(f"{annotations}: has {len(names) - 1} categories; masks have room for {IGNORED - 1}")
        super().__init__(names, images, transform, train=train, on_error=on_error)
        self.image_ids = self.objects.image_ids[self._kept]

    def file(self, index: int) -> Path:
        """Return the file of an image."""
        return self.objects.file(int(self._kept[index]))

    def read(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """See `SegmentationDataset.read`."""
        position = int(self._kept[index])
        sample = self.objects.load(position)
        classes, masks = self._classes[sample.labels], self.objects.instance_masks(position)
        mask = np.zeros(sample.size, dtype=np.uint8)
        owners = np.zeros(sample.size, dtype=np.uint8)  # 2 stands for more
        for class_, covered in zip(classes.tolist(), masks, strict=True):
            if class_:
                mask[covered] = class_
                owners += covered & (owners < 2)
        mask[owners > 1] = IGNORED
        return sample.image, mask


def _voc_classes(annotations: Path, category_ids: tuple[int, ...]) -> NDArray[np.int64]:
    """VOC's class of each label, 0 for what VOC has not."""
    missing = sorted(set(_VOC_CATEGORIES) - set(category_ids))
    if missing:
        raise InputError(
            f"{annotations}: has no category {missing[0]}, which COCO's own files have; set voc_labels to false"
        )
    classes = {category_id: class_ for class_, category_id in enumerate(_VOC_CATEGORIES, start=1)}
    return np.array([classes.get(category_id, 0) for category_id in category_ids], dtype=np.int64)
