"""Reading and checking data in Pascal VOC's layout: `Annotations`, `JPEGImages` and `ImageSets`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from mbdet.data.records import (
    ImageRecord,
    ObjectRecord,
    OnError,
    Problems,
    find_images,
    list_files,
    path_below,
    paused_garbage_collection,
)
from mbdet.errors import InputError
from mbdet.runtime.boxes import Box, Size, clip_box

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


class VocObject(NamedTuple):
    """An annotated object with a usable box."""

    image: int  # position of its image in `VocRecords.images`
    number: int  # its place in the file, from 1
    class_name: str
    difficult: bool
    box: Box  # xyxy pixels, clipped to the image


class VocRecords(NamedTuple):
    """What a split says about the images that are there."""

    root: Path
    split: str
    image_set: str  # folder of the lists within `ImageSets`
    annotations: dict[int, str]  # of every image id that the split lists: the XML file, relative to the root
    images: list[ImageRecord]  # in the split's order; ids count the split's images from 0
    objects: list[VocObject]  # image by image, in the files' order

    @property
    def source(self) -> Path:
        """What messages call the split: its list of images, or for several lists the root with their names."""
        return list_of(self.root, self.split, self.image_set)


class _Annotation(NamedTuple):
    """An XML file, unchecked."""

    filename: str | None
    size: Size | None
    objects: list[tuple[str, str, list[str]]]  # name, difficult, corners


@paused_garbage_collection()
def read_voc(root: Path, split: str, on_error: OnError, image_set: str = "Main") -> VocRecords:
    """Read a split and check all of it.

    Args:
        root: Folder that holds `Annotations`, `JPEGImages` and `ImageSets`, or several such folders.
        split: Name of an image set, or several joined by "+"; each may be preceded by its folder, as in
            "VOC2007/trainval+VOC2012/trainval".
        on_error: Whether bad boxes and files raise, or are left out, counted and logged.
        image_set: Folder of the lists within `ImageSets`.

    Returns:
        What is usable.

    Raises:
        InputError: If a file or an object cannot be used. Names of images that are not below the image folder raise
            under "skip" too.
    """
    names = read_names(root, split, image_set)
    xml_files = {number: f"{folder}Annotations/{stem}.xml" for number, (folder, stem) in enumerate(names)}
    problems = Problems(list_of(root, split, image_set), on_error, "images")
    annotations = _read_annotations(root, xml_files, problems)
    files = _image_files(root, names, annotations, problems)
    sizes = {number: annotation.size for number, annotation in annotations.items()}
    images = find_images(files, sizes, root, problems)
    boxes = Problems(problems.source, on_error, "boxes")
    objects = list(_check_objects(root, xml_files, annotations, images, boxes))
    boxes.log()
    return VocRecords(root, split, image_set, xml_files, images, objects)


def read_names(root: Path, split: str, task: str) -> list[tuple[str, str]]:
    """Read which images a split lists.

    Args:
        root: Folder that holds `ImageSets`, or several such folders.
        split: Name of an image set, or several, as in `read_voc`.
        task: Folder of the lists within `ImageSets`.

    Returns:
        Folder ("" or with a slash at its end) and stem of each image.

    Raises:
        InputError: If a list is not there, cannot be read, is empty, or names an image that is not below the image
            folder or that is there already.
    """
    names: dict[tuple[str, str], None] = {}
    for part in split.split("+"):
        folder, file = _split_file(root, part, task)
        try:
            lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        except FileNotFoundError:
            raise InputError(
                f"{file}: there is no such list of images; check the folder and the split, which for several years"
                " reads VOC2007/trainval+VOC2012/trainval"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{file}: cannot be read ({error}); copy or download it again") from None
        if not lines:
            raise InputError(f"{file}: lists no image; write the name of one image per line, without its suffix")
        columns = [line.rsplit(maxsplit=1) for line in lines]
        # The lists of single classes say in a second column whether the class is there.
        if all(len(column) == 2 and column[1] in ("-1", "0", "1") for column in columns):
            lines = [column[0] for column in columns]
        for line in lines:
            stem = path_below(line)
            if stem is None:
                raise InputError(f"{file}: {line!r} is not a path below the image folder; correct it")
            if (folder, stem) in names:
                raise InputError(f"{file}: the split {split!r} lists image {stem!r} twice; remove one of them")
            names[folder, stem] = None
    return list(names)


def label_objects(records: VocRecords, class_names: Sequence[str], on_error: OnError) -> list[ObjectRecord]:
    """Give objects their labels, which are positions in `class_names`.

    Raises:
        InputError: If an object has another name and `on_error` is "raise".
    """
    labels = {name: label for label, name in enumerate(class_names)}
    problems = Problems(records.source, on_error, "boxes")
    labelled = []
    for image, number, name, difficult, box in records.objects:
        if name in labels:
            labelled.append(ObjectRecord(image, labels[name], box, number, difficult=difficult))
        else:
            problems.add(
                f"object {number}: {name!r} is not among the {len(labels)} class names",
                "add it to class_names or correct it",
                file=records.root / records.annotations[records.images[image].image_id],
            )
    problems.log()
    return labelled


def list_of(root: Path, split: str, task: str) -> Path:
    """What messages call a split: its list of images, or for several lists the root with their names."""
    return root / split if "+" in split else _split_file(root, split, task)[1]


def _split_file(root: Path, part: str, task: str) -> tuple[str, Path]:
    """Folder ("" or with a slash at its end) and list of one part of a split."""
    folder, slash, name = part.strip().rpartition("/")
    return folder + slash, root / folder / "ImageSets" / task / f"{name}.txt"


def _read_annotations(root: Path, files: dict[int, str], problems: Problems) -> dict[int, _Annotation]:
    present = list_files(root, files.values())
    missing = [file for file in files.values() if file not in present]
    if missing:
        problems.add(
            f"{len(missing)} of {len(files)} annotation files are missing in {root}, first {missing[0]}",
            "copy them there",
            len(missing),
        )
    annotations = {}
    for number, file in files.items():
        if file in present:
            try:
                annotations[number] = _read_xml(root / file)
            except ValueError as error:
                problems.add(str(error), "correct the file or copy it again", file=root / file)
    return annotations


def _read_xml(path: Path) -> _Annotation:
    """Read an annotation file; ValueError says what is wrong with it."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from None
    # No annotation needs one, and its entities can fill the memory. Without zeros UTF-16 reads like ASCII here.
    if b"<!DOCTYPE" in content.replace(b"\0", b""):
        raise ValueError("has a DOCTYPE, which annotations do not have")
    try:
        root = ElementTree.fromstring(content)
    # Encodings that are unknown or take several bytes per character raise the latter two.
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise ValueError(f"not valid XML ({error}), perhaps cut short") from None
    if root.tag != "annotation":
        raise ValueError(f"not a VOC annotation: the root element is <{root.tag}>, not <annotation>")
    return _Annotation(
        root.findtext("filename"),
        _recorded_size(root.findtext("size/height"), root.findtext("size/width")),
        [
            (_text(node, "name"), _text(node, "difficult"), [_text(node, f"bndbox/{corner}") for corner in _CORNERS])
            for node in root.findall("object")
        ],
    )


def _text(node: ElementTree.Element, path: str) -> str:
    """Text below a node, on one line; "" where there is none."""
    return " ".join(node.findtext(path, "").split())


def _recorded_size(height: str | None, width: str | None) -> Size | None:
    """Some tools leave the size out or write zeros; then the image itself says it."""
    try:
        size = int(height or 0), int(width or 0)
    except ValueError:
        return None
    return size if min(size) > 0 else None


def _image_files(
    root: Path, names: list[tuple[str, str]], annotations: dict[int, _Annotation], problems: Problems
) -> dict[int, str]:
    """Files of the images that have an annotation, relative to the root: as VOC names them, else as the XML does.

    In this order, because files that were copied under new names tend to keep the old name inside.
    """
    standard = {number: f"{names[number][0]}JPEGImages/{names[number][1]}.jpg" for number in annotations}
    present = list_files(root, standard.values())
    files = {}
    for number, file in standard.items():
        files[number] = file
        filename = annotations[number].filename
        if file not in present and filename is not None:
            below = path_below(filename.strip())
            if below is None:
                folder, stem = names[number]
                raise InputError(
                    f"{root / folder}/Annotations/{stem}.xml: filename {filename!r} is not a path below the image"
                    f" folder, and there is no {root / file}; correct it"
                )
            files[number] = f"{names[number][0]}JPEGImages/{below}"
    if not files:
        raise InputError(f"{problems.source}: none of the {len(names)} annotation files can be used; copy them again")
    return files


def _check_objects(
    root: Path,
    files: dict[int, str],
    annotations: dict[int, _Annotation],
    images: list[ImageRecord],
    problems: Problems,
) -> Iterator[VocObject]:
    for position, image in enumerate(images):
        for number, (name, difficult, corners) in enumerate(annotations[image.image_id].objects, start=1):
            try:
                if not name:
                    raise ValueError("has no name")
                if difficult not in ("", "0", "1"):
                    raise ValueError(f"difficult is {difficult!r}, not 0 or 1")
                box = _read_box(corners, image.size)
            except ValueError as error:
                file = root / files[image.image_id]
                problems.add(f"object {number} ({name}): {error}", "correct or remove it", file=file)
            else:
                yield VocObject(position, number, name, difficult == "1", box)


def _read_box(corners: list[str], size: Size) -> Box:
    """From VOC's corners to xyxy within the image; ValueError says what is wrong with the box.

    VOC counts pixels from 1 and names the first and the last pixel inside, so only the former move by 1. Corners that
    coincide would be one pixel wide then, but are what a stray click leaves, and refused.
    """
    shown = "bndbox " + " ".join(f"{name}={text}" for name, text in zip(_CORNERS, corners, strict=True))
    try:
        xmin, ymin, xmax, ymax = (float(text) for text in corners)
    except ValueError:
        raise ValueError(f"{shown} is not four numbers") from None
    if not all(abs(place) < 1e9 for place in (xmin, ymin, xmax, ymax)):  # false for NaN too
        raise ValueError(f"{shown} is at no finite place")
    if xmax <= xmin or ymax <= ymin:
        raise ValueError(f"{shown} has no width and height, for xmax is not above xmin or ymax not above ymin")
    try:
        return clip_box((xmin - 1, ymin - 1, xmax, ymax), size)
    except ValueError as error:
        raise ValueError(f"{shown} {error}") from None
