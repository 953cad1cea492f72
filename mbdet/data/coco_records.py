"""Reading and checking a COCO annotation file, record by record."""

import gc
import json
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from typing import Any, Literal, NamedTuple

from mbdet.errors import InputError
from mbdet.runtime.image import image_size

logger = logging.getLogger(__name__)

OnError = Literal["raise", "skip"]
Json = dict[str, Any]


class ImageRecord(NamedTuple):
    """An image whose file exists."""

    image_id: int
    file: str  # relative to the image folder
    size: tuple[int, int]  # height and width


class ObjectRecord(NamedTuple):
    """An annotated object with a usable box."""

    image: int  # position of its image in `CocoRecords.images`
    label: int  # 0..K-1
    box: tuple[float, float, float, float]  # xyxy pixels, clipped to the image
    annotation_id: object
    segmentation: object


class CocoRecords(NamedTuple):
    """What an annotation file says about the images that are there."""

    category_ids: tuple[int, ...]  # ascending; label k means category_ids[k]
    class_names: tuple[str, ...]  # in the same order
    images: list[ImageRecord]  # in the file's order
    objects: list[ObjectRecord]  # image by image, in the file's order; no crowds


@contextmanager
def _paused_garbage_collection() -> Iterator[None]:
    """Millions of records are made here and none is garbage; to look for it again and again takes 40 % of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@_paused_garbage_collection()
def read_records(annotations: Path, images: Path, on_error: OnError) -> CocoRecords:
    """Read an `instances_*.json` and check all of it.

    Args:
        annotations: The file.
        images: Folder that its file names are relative to.
        on_error: Whether bad boxes and missing images raise, or are left out, counted and logged.

    Returns:
        What is usable.

    Raises:
        InputError: If the file or a record cannot be used. File names that are not below the image folder raise under
            "skip" too.
    """
    content = _read_json(annotations)
    categories = _by_id(content["categories"], "category", annotations)
    category_ids = tuple(sorted(categories))
    image_records = _by_id(content["images"], "image", annotations)
    usable = _check_images(image_records, images, _Problems(annotations, on_error, "images"))
    objects = _check_objects(
        content["annotations"],
        {image.image_id: (position, image) for position, image in enumerate(usable)},
        image_records.keys() - {image.image_id for image in usable},
        {category_id: label for label, category_id in enumerate(category_ids)},
        _Problems(annotations, on_error, "boxes"),
    )
    return CocoRecords(
        category_ids,
        tuple(str(categories[category_id].get("name", category_id)) for category_id in category_ids),
        usable,
        sorted(objects, key=lambda object_: object_.image),
    )


class _Problems:
    """Raises at the first bad record, or counts them and logs one line."""

    def __init__(self, file: Path, on_error: OnError, what: str) -> None:
        self.file, self.on_error, self.what = file, on_error, what
        self.count = 0
        self.first = ""

    def add(self, problem: str, cure: str, count: int = 1) -> None:
        if self.on_error == "raise":
            raise InputError(f"{self.file}: {problem}; {cure}, or leave such {self.what} out with on_error='skip'")
        self.count += count
        self.first = self.first or problem

    def log(self) -> None:
        if self.count:
            logger.warning("%s: left out %d %s; first: %s", self.file, self.count, self.what, self.first)


def _read_json(path: Path) -> dict[str, list[Json]]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            content = json.load(file)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such annotation file; check the path") from None
    except json.JSONDecodeError as error:
        # A string that is cut off is reported where it begins, anything else within a token of the end.
        cut = len(error.doc) - error.pos < 20 or error.msg.startswith("Unterminated string")
        cure = "the file looks truncated, copy or download it again" if cut else "correct it there"
        raise InputError(
            f"{path}: not valid JSON at line {error.lineno} column {error.colno} ({error.msg}); {cure}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); copy or download it again") from None
    keys = ("images", "annotations", "categories")
    absent = [key for key in keys if not (isinstance(content, dict) and isinstance(content.get(key), list))]
    if absent:
        raise InputError(f"{path}: not an instances file, no list of {', '.join(absent)}; give an instances_*.json")
    for key in keys:
        if not all(isinstance(record, dict) for record in content[key]):
            raise InputError(f"{path}: not an instances file, {key} holds more than objects; correct it")
    return {key: content[key] for key in keys}


def _by_id(records: list[Json], what: str, file: Path) -> dict[int, Json]:
    by_id: dict[int, Json] = {}
    for record in records:
        number = record.get("id")
        if not isinstance(number, int):
            raise InputError(f"{file}: {what} id {number!r} is not a whole number; number them")
        if number in by_id:
            raise InputError(f"{file}: {what} id {number} occurs twice; give each its own")
        by_id[number] = record
    if not by_id:
        raise InputError(f"{file}: lists no {what}; check the file")
    return by_id


def _check_images(records: dict[int, Json], folder: Path, problems: _Problems) -> list[ImageRecord]:
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such image folder; check the path")
    files = {image_id: _below_folder(record, problems.file) for image_id, record in records.items()}
    present = _list_files(folder, files.values())
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
                size = _recorded_size(records[image_id]) or image_size(folder / file)
            except InputError as error:
                problems.add(f"image {image_id} has no height and width: {error}", "correct the record")
            else:
                usable.append(ImageRecord(image_id, file, size))
    problems.log()
    if not usable:
        raise InputError(f"{folder}: none of the {len(files)} images of {problems.file} can be used; copy them there")
    return usable


def _recorded_size(record: Json) -> tuple[int, int] | None:
    height, width = record.get("height"), record.get("width")
    if isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0:
        return height, width
    return None


def _below_folder(record: Json, annotations: Path) -> str:
    """The record's file name with forward slashes, provided that it stays below the image folder."""
    name = record.get("file_name")
    # Windows' rules know both kinds of slash, and drives; so a name is refused on every system or on none.
    path = PureWindowsPath(name if isinstance(name, str) else "")
    if path.anchor or not path.parts or ".." in path.parts or "\0" in str(path):
        raise InputError(
            f"{annotations}: image {record['id']}: file_name {name!r} is not a path below the image folder; correct it"
        )
    return "/".join(path.parts)


def _list_files(folder: Path, files: Iterable[str]) -> set[str]:
    """What exists in the folders of these files; one listing per folder is far cheaper than asking for each file."""
    found: set[str] = set()
    for parent in {file.rpartition("/")[0] for file in files}:
        if (folder / parent).is_dir():
            with os.scandir(folder / parent) as entries:
                names = [entry.name for entry in entries if not entry.is_dir(follow_symlinks=False)]
            found.update(f"{parent}/{name}" if parent else name for name in names)
    return found


def _check_objects(
    records: list[Json],
    images: dict[int, tuple[int, ImageRecord]],
    images_left_out: set[int],
    labels: dict[int, int],
    problems: _Problems,
) -> Iterator[ObjectRecord]:
    for record in records:
        if record.get("iscrowd"):
            continue
        image_id, category_id = record.get("image_id"), record.get("category_id")
        try:
            if image_id in images_left_out:
                continue
            if image_id not in images:
                raise ValueError(f"image_id {image_id!r} is not among the images")
            if category_id not in labels:
                raise ValueError(f"category_id {category_id!r} is not among the categories")
            position, image = images[image_id]
            box = _clip_box(record.get("bbox"), *image.size)
        except (ValueError, TypeError) as error:  # TypeError: an id that is a list
            problems.add(f"annotation {record.get('id')} (image {image_id}): {error}", "correct or remove it")
        else:
            yield ObjectRecord(position, labels[category_id], box, record.get("id"), record.get("segmentation"))
    problems.log()


def _clip_box(bbox: object, height: int, width: int) -> tuple[float, float, float, float]:
    """From COCO's x, y, width, height to xyxy within the image; ValueError says what is wrong with the box."""
    if not (isinstance(bbox, list) and len(bbox) == 4 and all(isinstance(side, int | float) for side in bbox)):
        raise ValueError(f"bbox {bbox!r} is not four numbers x, y, width, height")
    x, y, w, h = bbox
    if not (abs(x) < 1e9 and abs(y) < 1e9 and 0 < w < 1e9 and 0 < h < 1e9):  # false for NaN too
        raise ValueError(f"bbox {bbox!r} has no positive width and height at a finite place")
    x1, y1, x2, y2 = max(x, 0.0), max(y, 0.0), min(x + w, width), min(y + h, height)
    if min(x2 - x1, y2 - y1) < 0.01:  # pixels; rounded to single precision, less could become nothing
        raise ValueError(f"bbox {bbox!r} has no area within its image of {width}x{height} (width x height)")
    return x1, y1, x2, y2
