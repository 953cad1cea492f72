"""From a picture to what is in it, whatever runs the network."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mbdet.errors import InputError
from mbdet.runtime.draw import draw_classification, draw_detections
from mbdet.runtime.draw_maps import draw_map
from mbdet.runtime.image import Resizing, central_crop, place, read_image, resize, upright_rgb
from mbdet.runtime.maps import class_palette, restore_map, save_map
from mbdet.runtime.types import IGNORED, Classification, Detections, Segmentation

Picture = str | Path | Image.Image | NDArray[np.uint8]
Found = TypeVar("Found")
TOP = 5  # classes that a `Classification` holds
MASKS = "masks"  # folder beside the drawings that `SegmenterPredictor.save` makes


class Predictor(ABC, Generic[Found]):
    """A network ready for use, with what it gives for one image as its type argument.

    Attributes:
        kind: What the network is: a detector, a classifier, ...
        class_names: The K names, in the order of the labels.
        input_size: Height and width of the network input in pixels.
    """

    kind: ClassVar[str]
    class_names: tuple[str, ...]
    input_size: tuple[int, int]

    @abstractmethod
    def __call__(self, picture: Picture, score_threshold: float = 0.0) -> Found:
        """Predict for one picture.

        Args:
            picture: A file, a Pillow image, or an array (H, W, 3) uint8 RGB.
            score_threshold: What scores less is left out.

        Raises:
            InputError: If the file cannot be read as an image.
        """

    @abstractmethod
    def predict(self, images: NDArray[np.uint8], sizes: NDArray[np.int64]) -> list[Found]:
        """Predict for a batch that has the network's input size already.

        Args:
            images: (B, 3, H, W) RGB.
            sizes: (B, 2) height and width of each original image.

        Returns:
            One per image.
        """

    @abstractmethod
    def above(self, found: Found, score_threshold: float) -> Found:
        """Leave out of what was found in one picture what scores less than a threshold."""

    @abstractmethod
    def draw(self, image: NDArray[np.uint8], found: Found) -> NDArray[np.uint8]:
        """Draw all that was found into a copy of its picture (H, W, 3)."""

    @abstractmethod
    def record(self, found: Found) -> dict[str, object]:
        """Return what was found as plain values with names instead of labels, ready for `json.dump`."""

    @property
    def preparation(self) -> dict[str, object]:
        """What `prepare` depends on, by the names that data modules have for it."""
        return {"input_size": self.input_size}

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Bring a picture (H, W, 3) to the network's input size."""
        return resize(image, self.input_size)

    def save(self, image: NDArray[np.uint8], found: Found, folder: Path, name: str) -> dict[str, object]:
        """Write all that was found in a picture as files: a drawing, and what else shows it.

        Args:
            image: The picture (H, W, 3).
            found: What was found in it.
            folder: Where to write; it exists.
            name: Of the files, without a suffix.

        Returns:
            Its `record`, with the files beside the drawing, relative to the folder.
        """
        Image.fromarray(self.draw(image, found)).save(folder / f"{name}.jpg", quality=90)
        return self.record(found)

    def predict_one(self, picture: Picture) -> Found:
        """Predict for one picture, with every score."""
        image = as_array(picture)
        (found,) = self.predict(self.prepare(image).transpose(2, 0, 1)[None], np.array([image.shape[:2]]))
        return found


class DetectorPredictor(Predictor[Detections]):
    """A detector ready for use."""

    kind = "detector"

    def __call__(self, picture: Picture, score_threshold: float = 0.5) -> Detections:
        """Find the objects in one picture, best first, boxes in its pixels; see `Predictor.__call__`."""
        return self.above(self.predict_one(picture), score_threshold)

    def above(self, found: Detections, score_threshold: float) -> Detections:
        """See `Predictor.above`."""
        return found.where(found.scores >= score_threshold)

    def draw(self, image: NDArray[np.uint8], found: Detections) -> NDArray[np.uint8]:
        """Draw a box with name and score for each object."""
        return draw_detections(image, found, self.class_names, 0.0)

    def record(self, found: Detections) -> dict[str, object]:
        """Return `objects`: name, score, and box as xyxy pixels of the picture."""
        return {"objects": object_records(found, self.class_names)}


class ClassifierPredictor(Predictor[Classification]):
    """A classifier ready for use.

    Attributes:
        eval_crop: Side of the central part of a picture that the network sees, in sides of the picture.
    """

    kind = "classifier"
    eval_crop: float

    def __call__(self, picture: Picture, score_threshold: float = 0.0) -> Classification:
        """Name the likeliest classes of one picture, at most five; see `Predictor.__call__`."""
        return self.above(self.predict_one(picture), score_threshold)

    def above(self, found: Classification, score_threshold: float) -> Classification:
        """See `Predictor.above`."""
        keep = found.scores >= score_threshold
        return Classification(found.scores[keep], found.labels[keep])

    @property
    def preparation(self) -> dict[str, object]:
        """See `Predictor.preparation`."""
        return {**super().preparation, "eval_crop": self.eval_crop}

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Take the central part and bring it to the network's input size."""
        return resize(central_crop(image, self.eval_crop), self.input_size)

    def draw(self, image: NDArray[np.uint8], found: Classification) -> NDArray[np.uint8]:
        """Write the likeliest class and its probability."""
        return draw_classification(image, found, self.class_names)

    def record(self, found: Classification) -> dict[str, object]:
        """Return `classes`: name and score, best first."""
        return {"classes": scored_names(found.labels, found.scores, self.class_names)}


class SegmenterPredictor(Predictor[Segmentation]):
    """A segmenter ready for use.

    The network's classes are those of its input's pixels; a pixel of the original image has that of the nearest one. So
    they are the same wherever the network runs.

    Attributes:
        resizing: How pictures are brought to the network input.
    """

    kind = "segmenter"
    resizing: Resizing

    def __call__(self, picture: Picture, score_threshold: float = 0.0) -> Segmentation:
        """Name the class of every pixel of one picture, 255 where it scores too little; see `Predictor.__call__`.

        Raises:
            InputError: Also if there is a threshold, but the model gives no probabilities.
        """
        return self.above(self.predict_one(picture), score_threshold)

    def above(self, found: Segmentation, score_threshold: float) -> Segmentation:
        """Give the pixels that score less than a threshold the class 255.

        Raises:
            InputError: If there is a threshold, but the model gives no probabilities.
        """
        if score_threshold <= 0:
            return found
        if found.scores is None:
            raise InputError("this model file gives classes alone; export it with --probabilities to use a threshold")
        kept = np.where(found.scores >= score_threshold, found.classes, np.uint8(IGNORED))
        return Segmentation(kept, found.scores)

    @property
    def preparation(self) -> dict[str, object]:
        """See `Predictor.preparation`."""
        return {**super().preparation, "resizing": self.resizing}

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Bring a picture (H, W, 3) to the network's input size."""
        return place(image, self.input_size, self.resizing)

    def draw(self, image: NDArray[np.uint8], found: Segmentation) -> NDArray[np.uint8]:
        """Lay the colours of the classes over a picture, with a legend."""
        return draw_map(image, found.classes, self.class_names)

    def save(self, image: NDArray[np.uint8], found: Segmentation, folder: Path, name: str) -> dict[str, object]:
        """Write the drawing, and the classes as a mask of the picture's size, see `save_map` and `Predictor.save`."""
        record = super().save(image, found, folder, name)
        save_map(found.classes, class_palette(self.class_names), folder / MASKS / f"{name}.png")
        return {"mask": f"{MASKS}/{name}.png", **record}

    def record(self, found: Segmentation) -> dict[str, object]:
        """Return `classes`: the share of the pixels of each class that occurs, the largest first."""
        return {"classes": class_shares(found.classes, self.class_names)}


def scored_names(
    labels: NDArray[np.int64], scores: NDArray[np.float32], class_names: Sequence[str]
) -> list[dict[str, object]]:
    """Return the name and the rounded score of each label, as plain values."""
    return [
        {"name": class_names[label] if class_names else str(label), "score": round(score, 4)}
        for label, score in zip(labels.tolist(), scores.tolist(), strict=True)
    ]


def object_records(found: Detections, class_names: Sequence[str]) -> list[dict[str, object]]:
    """Return name, score, and box as xyxy pixels of the picture, of each object as plain values."""
    named = scored_names(found.labels, found.scores, class_names)
    boxes = [[round(x, 2) for x in box] for box in found.boxes.tolist()]
    return [{**item, "box": box} for item, box in zip(named, boxes, strict=True)]


def class_shares(classes: NDArray[np.uint8], class_names: Sequence[str]) -> list[dict[str, object]]:
    """Return name and share of the pixels of each class in a map, the largest first, as plain values."""
    counts = np.bincount(classes.ravel(), minlength=256)
    order = [label for label in np.argsort(-counts, kind="stable").tolist() if counts[label] and label != IGNORED]
    return [{"name": class_names[label], "share": round(int(counts[label]) / classes.size, 4)} for label in order]


def restore_segmentations(
    classes: NDArray[np.uint8], scores: NDArray[np.float32] | None, sizes: NDArray[np.int64], resizing: Resizing
) -> list[Segmentation]:
    """Bring maps of the network input back to the original images.

    Args:
        classes: (B, H, W).
        scores: Likewise, or None.
        sizes: (B, 2) height and width of each original image.
        resizing: How the images were brought to the network input.
    """
    input_size = (classes.shape[1], classes.shape[2])
    shapes = [(height, width) for height, width in sizes.tolist()]
    return [
        Segmentation(
            restore_map(classes[index], shape, input_size, resizing),
            None if scores is None else restore_map(scores[index], shape, input_size, resizing),
        )
        for index, shape in enumerate(shapes)
    ]


def as_array(picture: Picture) -> NDArray[np.uint8]:
    """Return a picture as (H, W, 3) uint8 RGB."""
    if isinstance(picture, str | Path):
        return read_image(Path(picture))
    if isinstance(picture, Image.Image):
        return np.array(upright_rgb(picture))
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ValueError(f"expected an array (H, W, 3) of uint8 RGB, got {picture.shape} of {picture.dtype}")
    return picture


def to_original(
    boxes: NDArray[np.float32], input_size: tuple[int, int], size: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Move boxes from pixels of the network input to pixels of the original image.

    Args:
        boxes: (N, 4) xyxy.
        input_size: Height and width of the network input, to which the image was stretched.
        size: Height and width of the original image.
    """
    scale = np.asarray(size)[::-1] / np.array(input_size)[::-1]
    # In double precision, so that the border of the input becomes exactly the border of the image.
    moved: NDArray[np.float32] = (boxes * np.tile(scale, 2)).astype(np.float32)
    return moved
