"""Detection data sets in COCO's layout: an `instances_*.json` and a folder of images."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mbdet.data.coco_records import read_records
from mbdet.data.detection_dataset import DetectionDataset
from mbdet.data.masks import decode_segmentation
from mbdet.data.records import ObjectRecord, OnError
from mbdet.data.transforms import Transform
from mbdet.errors import InputError


class CocoDetection(DetectionDataset):
    """Images and boxes of a COCO annotation file. Crowds are no training targets of detection and stay out.

    Args:
        annotations: The `instances_*.json`.
        images: Folder that its file names are relative to.
        transform: What every sample goes through; None leaves image and boxes as they are.
        train: What becomes of an image that turns out unreadable under `on_error="skip"`: in training the next readable
            one takes its place, otherwise its sample is None.
        on_error: Whether bad boxes and missing images raise, or are left out, counted and logged.
        masks: Whether to keep the segmentations for `instance_masks`; they are most of the file.
        crowds: Whether crowds are objects too.

    Attributes:
        category_ids: The file's category ids, ascending; label k means `category_ids[k]`.
        class_names: Their names, in the same order.
        image_ids: (N,) the file's id of each image.
        max_objects: Largest number of objects in any image, at least 1.

    Raises:
        InputError: If the file or a record cannot be used. File names that are not below the image folder raise under
            "skip" too.
    """

    def __init__(
        self,
        annotations: Path,
        images: Path,
        transform: Transform | None = None,
        *,
        train: bool = False,
        on_error: OnError = "raise",
        masks: bool = False,
        crowds: bool = False,
    ) -> None:
        records = read_records(annotations, images, on_error, crowds=crowds)
        super().__init__(
            records.class_names,
            records.images,
            records.objects,
            annotations,
            images,
            transform,
            train=train,
            on_error=on_error,
        )
        self.category_ids = records.category_ids
        self._areas = np.array([object_.area for object_ in records.objects], dtype=np.float64)
        self._segmentations = _Segmentations(records.objects) if masks else None

    def instance_masks(self, index: int) -> NDArray[np.bool_]:
        """Decode the masks of one image's objects, in the order of its targets before the transform.

        Returns:
            (M, H, W), in pixels of the original image.

        Raises:
            InputError: If a segmentation is malformed, or if the data set was made without `masks=True`.
        """
        if self._segmentations is None:
            raise InputError(f"{self.source}: the segmentations were not kept; make the data set with masks=True")
        index = range(len(self))[index]
        start, end = self._starts[index : index + 2].tolist()
        height, width = self._sizes[index].tolist()
        masks = np.zeros((end - start, height, width), dtype=np.bool_)
        for position, mask in zip(range(start, end), masks, strict=True):
            annotation_id, segmentation = self._segmentations[position]
            try:
                mask[:] = decode_segmentation(segmentation, height, width)
            except InputError as error:
                image_id = self.image_ids[index]
                raise InputError(f"{self.source}: annotation {annotation_id} (image {image_id}): {error}") from None
        return masks

    def areas(self, labels: Sequence[int]) -> NDArray[np.float64]:
        """Add up the recorded areas of the objects of some labels.

        Returns:
            (N,) pixels in each image.
        """
        owners = np.repeat(np.arange(len(self)), np.diff(self._starts))
        counts = np.isin(self._labels, labels)
        totals = np.zeros(len(self))
        np.add.at(totals, owners[counts], self._areas[counts])
        return totals


def coco_annotations(root: Path, split: str) -> Path:
    """Return the annotation file of a split in the layout of COCO 2017."""
    return root / "annotations" / f"instances_{split}.json"


def coco_layout(*splits: str) -> str:
    """Say what belongs into a data set of these splits, for messages."""
    return " and ".join(f"{split}/ with annotations/instances_{split}.json" for split in splits)


def check_same_categories(train: CocoDetection, val: CocoDetection) -> None:
    """Compare the categories of two splits: labels, counted per file, mean the same only if these are the same.

    Raises:
        InputError: If they differ.
    """
    if (train.category_ids, train.class_names) != (val.category_ids, val.class_names):
        raise InputError(
            f"{train.source}: its {len(train.class_names)} categories are not the {len(val.class_names)} of"
            f" {val.source}; list the same ids and names in both"
        )


class _Segmentations:
    """Annotation id and segmentation of each object, packed into one string for the same reason as the arrays."""

    def __init__(self, objects: Sequence[ObjectRecord]) -> None:
        packed = [json.dumps([object_.annotation_id, object_.segmentation]).encode() for object_ in objects]
        self._packed = b"".join(packed)
        self._ends = np.cumsum([0, *map(len, packed)])

    def __getitem__(self, position: int) -> tuple[object, object]:
        start, end = self._ends[position : position + 2]
        annotation_id, segmentation = json.loads(self._packed[start:end])
        return annotation_id, segmentation
