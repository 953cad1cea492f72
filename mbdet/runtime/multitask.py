"""Objects and classes of one picture, whatever runs the network, and both in one drawing."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mbdet.runtime.draw import draw_detections
from mbdet.runtime.draw_maps import draw_map
from mbdet.runtime.maps import class_palette, save_map
from mbdet.runtime.predictor import MASKS, Picture, Predictor, class_shares, object_records
from mbdet.runtime.types import Detections, MultiTaskPrediction


class MultiTaskPredictor(Predictor[MultiTaskPrediction]):
    """Two heads on one backbone ready for use; pictures are stretched to the network's input size.

    Attributes:
        class_names: The names of the objects' classes, in the order of the labels.
        segment_names: The names of the pixels' classes, likewise.
    """

    kind = "multitask network"
    segment_names: tuple[str, ...]

    def __call__(self, picture: Picture, score_threshold: float = 0.5) -> MultiTaskPrediction:
        """Find the objects in one picture, best first, and the class of every pixel; see `Predictor.__call__`.

        The threshold is for objects; every pixel has its likeliest class, whatever that scores.
        """
        return self.above(self.predict_one(picture), score_threshold)

    def above(self, found: MultiTaskPrediction, score_threshold: float) -> MultiTaskPrediction:
        """Leave out objects that score less than a threshold."""
        objects = found.detections
        return MultiTaskPrediction(objects.where(objects.scores >= score_threshold), found.segmentation)

    def draw(self, image: NDArray[np.uint8], found: MultiTaskPrediction) -> NDArray[np.uint8]:
        """Lay the colours of the classes over a picture, with a legend, and draw a box for each object."""
        return draw_both(image, found, self.class_names, self.segment_names)

    def save(self, image: NDArray[np.uint8], found: MultiTaskPrediction, folder: Path, name: str) -> dict[str, object]:
        """Write the drawing, and the classes as a mask of the picture's size, see `save_map` and `Predictor.save`."""
        record = super().save(image, found, folder, name)
        save_map(found.segmentation.classes, class_palette(self.segment_names), folder / MASKS / f"{name}.png")
        return {"mask": f"{MASKS}/{name}.png", **record}

    def record(self, found: MultiTaskPrediction) -> dict[str, object]:
        """Return `objects` and `classes`, as detectors and segmenters do."""
        return {
            "objects": object_records(found.detections, self.class_names),
            "classes": class_shares(found.segmentation.classes, self.segment_names),
        }


def draw_both(
    image: NDArray[np.uint8],
    found: MultiTaskPrediction,
    class_names: Sequence[str],
    segment_names: Sequence[str],
    score_threshold: float = 0.0,
    boxes: NDArray[np.float32] | None = None,
    mask: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Draw objects as boxes over the map of classes.

    Args:
        image: (H, W, 3) RGB; left as it is.
        found: Objects and classes of this image.
        class_names: Names of the objects' classes.
        segment_names: Names of the pixels' classes.
        score_threshold: Objects with a lower score are left out.
        boxes: (N, 4) xyxy pixels of the ground truth, drawn as dashes; where there is a mask too, over that.
        mask: (H, W) classes of the ground truth, drawn beside the image, to the right.

    Returns:
        As `draw_map`.
    """
    picture = draw_map(image, found.segmentation.classes, segment_names, mask)
    height, width = image.shape[:2]
    left = picture[:height, :width]
    picture[:height, :width] = draw_detections(
        left, found.detections, class_names, score_threshold, None if mask is not None else boxes
    )
    if mask is not None and boxes is not None:
        none = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
        picture[:height, width:] = draw_detections(picture[:height, width:], none, class_names, 0.0, boxes)
    return picture
