"""Reading and checking a COCO annotation file, record by record."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mbdet.data.records import (
    ImageRecord,
    ObjectRecord,
    OnError,
    Problems,
    find_images,
    path_below,
    paused_garbage_collection,
)
from mbdet.errors import InputError
from mbdet.runtime.boxes import Box, read_coco_box, read_coco_size

Json = dict[str, Any]


class CocoRecords(NamedTuple):
    """What an annotation file says about the images that are there."""

    category_ids: tuple[int, ...]  # ascending; label k means category_ids[k]
    class_names: tuple[str, ...]  # in the same order
    images: list[ImageRecord]  # in the file's order
    objects: list[ObjectRecord]  # image by image, in the file's order


@paused_garbage_collection()
def read_records(annotations: Path, images: Path, on_error: OnError, *, crowds: bool = False) -> CocoRecords:
    """Read an `instances_*.json` and check all of it.

    Args:
        annotations: The file.
        images: Folder that its file names are relative to.
        on_error: Whether bad boxes and missing images raise, or are left out, counted and logged.
        crowds: Whether to read crowds too.

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
    usable = _check_images(image_records, images, Problems(annotations, on_error, "images"))
    objects = _check_objects(
        [record for record in content["annotations"] if crowds or not record.get("iscrowd")],
        {image.image_id: (position, image) for position, image in enumerate(usable)},
        image_records.keys() - {image.image_id for image in usable},
        {category_id: label for label, category_id in enumerate(category_ids)},
        Problems(annotations, on_error, "boxes"),
    )
    return CocoRecords(
        category_ids,
        tuple(str(categories[category_id].get("name", category_id)) for category_id in category_ids),
        usable,
        sorted(objects, key=lambda object_: object_.image),
    )


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


def _check_images(records: dict[int, Json], folder: Path, problems: Problems) -> list[ImageRecord]:
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such image folder; check the path")
    files = {}
    for image_id, record in records.items():
        file = path_below(record.get("file_name"))
        if file is None:
            raise InputError(
                f"{problems.source}: image {image_id}: file_name {record.get('file_name')!r} is not a path below the"
                " image folder; correct it"
            )
        files[image_id] = file
    sizes = {image_id: read_coco_size(record) for image_id, record in records.items()}
    return find_images(files, sizes, folder, problems)


def _check_objects(
    records: list[Json],
    images: dict[int, tuple[int, ImageRecord]],
    images_left_out: set[int],
    labels: dict[int, int],
    problems: Problems,
) -> Iterator[ObjectRecord]:
    for record in records:
        image_id, category_id = record.get("image_id"), record.get("category_id")
        try:
            if image_id in images_left_out:
                continue
            if image_id not in images:
                raise ValueError(f"image_id {image_id!r} is not among the images")
            if category_id not in labels:
                raise ValueError(f"category_id {category_id!r} is not among the categories")
            position, image = images[image_id]
            box = read_coco_box(record.get("bbox"), image.size)
        except (ValueError, TypeError) as error:  # TypeError: an id that is a list
            problems.add(f"annotation {record.get('id')} (image {image_id}): {error}", "correct or remove it")
        else:
            label, area = labels[category_id], _read_area(record.get("area"), box)
            yield ObjectRecord(position, label, box, record.get("id"), record.get("segmentation"), area=area)
    problems.log()


def _read_area(area: object, box: Box) -> float:
    """The recorded area in pixels; where none is recorded, that of the box."""
    return float(area) if isinstance(area, int | float) else (box[2] - box[0]) * (box[3] - box[1])
