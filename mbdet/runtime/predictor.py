"""From a picture to the objects in it, whatever runs the network."""

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mbdet.runtime.image import read_image, resize, upright_rgb
from mbdet.runtime.types import Detections

Picture = str | Path | Image.Image | NDArray[np.uint8]


class Predictor(ABC):
    """A detector ready for use.

    Attributes:
        class_names: The K names, in the order of the labels.
        input_size: Height and width of the network input in pixels.
    """

    class_names: tuple[str, ...]
    input_size: tuple[int, int]

    def __call__(self, picture: Picture, score_threshold: float = 0.5) -> Detections:
        """Find the objects in one picture.

        Args:
            picture: A file, a Pillow image, or an array (H, W, 3) uint8 RGB.
            score_threshold: Objects that score less are left out.

        Returns:
            Boxes in pixels of the picture, best first.

        Raises:
            InputError: If the file cannot be read as an image.
        """
        image = as_array(picture)
        batch = resize(image, self.input_size).transpose(2, 0, 1)[None]
        (found,) = self.predict(batch, np.array([image.shape[:2]]))
        keep = found.scores >= score_threshold
        return Detections(found.boxes[keep], found.scores[keep], found.labels[keep])

    @abstractmethod
    def predict(self, images: NDArray[np.uint8], sizes: NDArray[np.int64]) -> list[Detections]:
        """Find the objects in a batch that has the network's input size already.

        Args:
            images: (B, 3, H, W) RGB.
            sizes: (B, 2) height and width of each original image.

        Returns:
            One per image, boxes in pixels of the original image, every score that the decoding kept.
        """


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
