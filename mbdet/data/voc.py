"""Detection data sets in Pascal VOC's layout."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mbdet.data.detection_dataset import DetectionDataset
from mbdet.data.records import OnError
from mbdet.data.transforms import Transform
from mbdet.data.voc_records import VocRecords, label_objects


class VocDetection(DetectionDataset):
    """Images and boxes of a split in VOC's layout.

    Args:
        records: What `read_voc` read.
        class_names: Names of the K classes, in the order of the labels.
        transform: What every sample goes through; None leaves image and boxes as they are.
        train: What becomes of an image that turns out unreadable under `on_error="skip"`: in training the next readable
            one takes its place, otherwise its sample is None.
        on_error: Whether boxes of other classes and unreadable images raise, or are left out, counted and logged.
        difficult: Whether objects marked as difficult are targets too.

    Attributes:
        class_names: As given.
        image_ids: (N,) the place of each image in the split, from 0, images that were left out counted too.
        annotations: (N,) the XML file of each image, relative to the root.
        max_objects: Largest number of targets in any image, at least 1.

    Raises:
        InputError: If an object has another name than those given.
    """

    def __init__(
        self,
        records: VocRecords,
        class_names: Sequence[str],
        transform: Transform | None = None,
        *,
        train: bool = False,
        on_error: OnError = "raise",
        difficult: bool = False,
    ) -> None:
        super().__init__(
            tuple(class_names),
            records.images,
            label_objects(records, class_names, on_error),
            records.source,
            records.root,
            transform,
            train=train,
            on_error=on_error,
            difficult=difficult,
        )
        self.annotations = np.array([records.annotations[image.image_id] for image in records.images])

    def describe(self, index: int) -> str:
        """Say where an image is recorded, for messages."""
        return f"annotated in {self.images / str(self.annotations[index])}"

    def to_coco(self) -> dict[str, Any]:
        """Write the data set as a COCO instances document, with `iscrowd` for difficult objects.

        Returns:
            The document: category ids are the labels, file names are relative to the root.
        """
        owners = np.repeat(self.image_ids, np.diff(self._starts)).tolist()
        boxes = self._boxes.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        objects = zip(owners, self._labels.tolist(), boxes.tolist(), self._difficult.tolist(), strict=True)
        images = zip(self.image_ids.tolist(), self._files.tolist(), self._sizes.tolist(), strict=True)
        return {
            "images": [
                {"id": image_id, "file_name": file, "height": height, "width": width}
                for image_id, file, (height, width) in images
            ],
            "categories": [{"id": label, "name": name} for label, name in enumerate(self.class_names)],
            "annotations": [
                {
                    "id": number,
                    "image_id": image_id,
                    "category_id": label,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": int(difficult),
                }
                for number, (image_id, label, box, difficult) in enumerate(objects, start=1)
            ],
        }
