"""Labelled images in the layout of torchvision's ImageFolder: one folder per class."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torchvision.datasets.folder import make_dataset

from mbdet.data.base import ImageDataset
from mbdet.data.records import OnError
from mbdet.errors import InputError
from mbdet.runtime.image import PICTURES, read_image

ImageTransform = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


class ClassificationSample(NamedTuple):
    """One image with its class."""

    image: NDArray[np.uint8]  # (H, W, 3) RGB
    label: int  # 0..K-1
    image_id: int  # position of the image in its split
    size: tuple[int, int]  # height and width of the original image


class ImageFolder(ImageDataset[ClassificationSample]):
    """The pictures below `root/CLASS/`, by class and name. Hidden folders are no classes.

    Args:
        root: Folder of the split.
        transform: What every image goes through; None leaves it as it is.
        train: What becomes of an image that turns out unreadable under `on_error="skip"`: in training the next readable
            one takes its place, otherwise its sample is None.
        on_error: Whether unreadable images raise, or are left out, counted and logged.

    Attributes:
        class_names: Names of the class folders, sorted; label k means `class_names[k]`.
        labels: (N,) the label of each image.

    Raises:
        InputError: If there is no such folder, no class in it, or no picture in a class.
    """

    def __init__(
        self,
        root: Path,
        transform: ImageTransform | None = None,
        *,
        train: bool = False,
        on_error: OnError = "raise",
    ) -> None:
        super().__init__(root, train=train, on_error=on_error)
        self.transform = transform
        self.class_names = class_folders(root)
        numbers = {name: label for label, name in enumerate(self.class_names)}
        found = make_dataset(root, numbers, PICTURES, allow_empty=True)
        # Flat arrays instead of objects: reading a Python object writes its reference count, which in time copies the
        # whole data set into every DataLoader worker. Bytes, because an array of str takes four of them per letter.
        self._files = np.array([os.fsencode(os.path.relpath(path, root)) for path, _ in found])
        self.labels = np.array([label for _, label in found], dtype=np.int64)
        empty = np.flatnonzero(np.bincount(self.labels, minlength=len(self.class_names)) == 0)
        if len(empty):
            raise InputError(
                f"{root / self.class_names[empty[0]]}: no picture in this class folder; put some there or remove it"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def file(self, index: int) -> Path:
        """Return the file of an image."""
        return self.images / os.fsdecode(self._files[index])

    def load(self, index: int) -> ClassificationSample:
        """See `ImageDataset.load`."""
        image = read_image(self.file(index))
        size = (image.shape[0], image.shape[1])
        if self.transform is not None:
            image = self.transform(image)
        return ClassificationSample(image, int(self.labels[index]), index, size)


def class_folders(root: Path) -> tuple[str, ...]:
    """Return the names of the class folders of a split, sorted.

    Raises:
        InputError: If there is no such folder or no class in it.
    """
    if not root.is_dir():
        raise InputError(f"{root}: there is no such split; make it, and in it a folder of pictures for each class")
    names = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not names:
        raise InputError(f"{root}: no class folder in it; put the pictures of each class into a folder of its name")
    return tuple(names)
