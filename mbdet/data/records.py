"""What every layout of detection data is read into, and how its readers treat what cannot be used."""

import gc
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from typing import Literal, NamedTuple

from mbdet.errors import InputError
from mbdet.runtime.boxes import Box, Size
from mbdet.runtime.image import image_size

logger = logging.getLogger(__name__)

OnError = Literal["raise", "skip"]


class ImageRecord(NamedTuple):
    """An image whose file exists."""

    image_id: int
    file: str  # relative to the image folder
    size: Size  # height and width


class ObjectRecord(NamedTuple):
    """An annotated object with a usable box."""

    image: int  # position of its image among the image records
    label: int  # 0..K-1
    box: Box  # xyxy pixels, clipped to the image
    annotation_id: object
    segmentation: object = None  # as COCO writes it
    difficult: bool = False  # as VOC marks it: the evaluation ignores it
    area: float = 0.0  # pixels, as COCO records it


@contextmanager
def paused_garbage_collection() -> Iterator[None]:
    """Millions of records are made here and none is garbage; to look for it again and again takes 40 % of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class Problems:
    """Raises at the first bad record, or counts them and logs one line.

    Args:
        source: What is read: an annotation file or a list of images.
        on_error: Whether to raise or to count.
        what: What the records are, in the plural.
    """

    def __init__(self, source: Path, on_error: OnError, what: str) -> None:
        self.source, self.on_error, self.what = source, on_error, what
        self.count = 0
        self.first = ""

    def add(self, problem: str, cure: str, count: int = 1, file: Path | None = None) -> None:
        """Report a problem, of `file` if the records do not lie in the source itself."""
        if self.on_error == "raise":
            message = f"{file or self.source}: {problem}; {cure}"
            raise InputError(f"{message}, or leave such {self.what} out with on_error='skip'")
        self.count += count
        self.first = self.first or (f"{file}: {problem}" if file else problem)

    def log(self) -> None:
        """Say how many were left out, if any."""
        if self.count:
            logger.warning("%s: left out %d %s; first: %s", self.source, self.count, self.what, self.first)


def path_below(name: object) -> str | None:
    """Return a file name with forward slashes, provided that it stays below the folder it is relative to."""
    # Windows' rules know both kinds of slash, and drives; so a name is refused on every system or on none.
    path = PureWindowsPath(name if isinstance(name, str) else "")
    if path.anchor or not path.parts or ".." in path.parts or "\0" in str(path):
        return None
    return "/".join(path.parts)


def list_files(folder: Path, files: Iterable[str]) -> set[str]:
    """What exists in the folders of these files; one listing per folder is far cheaper than asking for each file."""
    found: set[str] = set()
    for parent in {file.rpartition("/")[0] for file in files}:
        if (folder / parent).is_dir():
            with os.scandir(folder / parent) as entries:
                names = [entry.name for entry in entries if not entry.is_dir(follow_symlinks=False)]
            found.update(f"{parent}/{name}" if parent else name for name in names)
    return found


def find_images(
    files: Mapping[int, str], sizes: Mapping[int, Size | None], folder: Path, problems: Problems
) -> list[ImageRecord]:
    """Keep the images that exist, in their order.

    Args:
        files: File of each image id, relative to the folder.
        sizes: Height and width that the annotations state; None is looked up in the file.
        folder: The image folder.
        problems: Takes the images that are missing or have no size.

    Raises:
        InputError: If no image can be used.
    """
    present = list_files(folder, files.values())
    missing = [image_id for image_id, file in files.items() if file not in present]
    if missing:
        problems.add(
            f"{len(missing)} of {len(files)} images are missing in {folder}, first {files[missing[0]]}"
            f" (image {missing[0]})",
            "copy them there",
            len(missing),
        )
    usable = []
    for image_id, file in files.items():
        if file in present:
            try:
                size = sizes[image_id] or image_size(folder / file)
            except InputError as error:
                problems.add(f"image {image_id} has no height and width: {error}", "correct the record")
            else:
                usable.append(ImageRecord(image_id, file, size))
    problems.log()
    if not usable:
        raise InputError(f"{folder}: none of the {len(files)} images of {problems.source} can be used; copy them there")
    return usable
