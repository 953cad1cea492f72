"""A network in a file exported by mbdet, whatever engine runs it."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbdet.errors import InputError, first_line
from mbdet.runtime.description import check_description
from mbdet.runtime.finish import finish

Values = dict[str, NDArray[Any]]  # outputs by name


class ModelFile(ABC):
    """A file, ready to be run.

    Args:
        path: The file.
        description: What was written into it or beside it, see `mbdet.export.format.Order`.

    Attributes:
        task: What it does: detection, segmentation, ...
        class_names: The K names, in the order of the labels.
        segment_names: Of a multitask network, the names of the pixels' classes.
        input: What the description says about the input.
        input_size: Height and width of the images that it takes.
        batch: How many images it takes at once; None is any number.
        description: All of it.

    Raises:
        InputError: If the description is not one of mbdet's, or damaged.
    """

    def __init__(self, path: Path, description: Mapping[str, Any]) -> None:
        self.path = path
        self.description = description
        check_description(path, description)
        self.task: str = description["task"]
        self.class_names: tuple[str, ...] = tuple(description["class_names"])
        self.segment_names: tuple[str, ...] = tuple(description.get("segment_names", ()))
        self.input: dict[str, Any] = description["input"]
        self.batch: int | None = self.input.get("batch")
        height, width = self.input["size"]
        self.input_size = (height, width)

    @abstractmethod
    def compute(self, images: NDArray[np.uint8]) -> Values:
        """Run the engine once.

        Args:
            images: (B, 3, H, W) RGB, with the B that the file takes; of any memory layout.

        Returns:
            The file's own outputs by name, each with B rows; the description says what they are.
        """

    def run(self, images: NDArray[np.uint8]) -> Values:
        """Run it on a batch, and do what the engine could not, such as non-maximum suppression.

        Args:
            images: (B, 3, H, W) RGB, any B from 1 up.

        Returns:
            The finished outputs by name, each with B rows, see `mbdet.runtime.finish.finish`.

        Raises:
            InputError: If the images are not of the file's size.
        """
        if images.shape[1:] != (3, *self.input_size):
            height, width = self.input_size
            raise InputError(
                f"{self.path}: takes RGB images of {height}x{width} (height x width), not an array of {images.shape};"
                " resize them as its description says, or export the network for that size"
            )
        step = self.batch or len(images)
        parts = [
            finish(self.compute(images[start : start + step]), self.description.get("decoding"))
            for start in range(0, len(images), step)
        ]
        return parts[0] if len(parts) == 1 else {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def description_beside(path: Path) -> Path:
    """Return the name of the file that describes a model file, beside it."""
    return path.with_name(f"{path.name}.json")


def read_description(path: Path) -> dict[str, Any]:
    """Read what stands beside a model file.

    Args:
        path: The model file.

    Raises:
        InputError: If the model file or its description is missing, or the description is damaged.
    """
    if not path.exists():
        raise InputError(f"{path}: no such model file")
    beside = description_beside(path)
    try:
        description = json.loads(beside.read_text())
    except FileNotFoundError:
        raise InputError(
            f"{path}: {beside.name}, which names its classes, is not beside it; copy both, or export the model again"
        ) from None
    except (ValueError, OSError) as error:
        raise InputError(f"{beside}: cannot be read ({error}); export the model again") from error
    if not isinstance(description, dict):
        raise InputError(f"{beside}: does not describe a model; export the model again")
    return description


def cannot_load(path: Path, engine: str, error: Exception) -> InputError:
    """Return the error that an engine refuses a file."""
    return InputError(f"{path}: {engine} cannot load it ({first_line(error)}); export it again")
