"""Which image and mask files belong together, in the layouts of Pascal VOC, Cityscapes and plain folders."""

from pathlib import Path

from mbdet.data.mask_files import Pair
from mbdet.data.voc_records import read_names
from mbdet.errors import InputError
from mbdet.runtime.image import PICTURES

VOC_CLASSES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
# The classes that Cityscapes evaluates, by the value that they have in its labelIds files. Source: its labels.py.
CITYSCAPES_CLASSES = {
    7: "road",
    8: "sidewalk",
    11: "building",
    12: "wall",
    13: "fence",
    17: "pole",
    19: "traffic light",
    20: "traffic sign",
    21: "vegetation",
    22: "terrain",
    23: "sky",
    24: "person",
    25: "rider",
    26: "car",
    27: "truck",
    28: "bus",
    31: "train",
    32: "motorcycle",
    33: "bicycle",
}
CITYSCAPES_IDS = 34  # all, from 0


def voc_pairs(root: Path, split: str, masks: str) -> dict[int, Pair]:
    """List `JPEGImages/x.jpg` and `{masks}/x.png` of every name that a split lists.

    Args:
        root: Folder that holds `JPEGImages`, the masks and `ImageSets/Segmentation`, or several such folders.
        split: Name of an image set, or several joined by "+", each preceded by its folder if it has one.
        masks: Folder of the masks.

    Returns:
        The files by their place in the split, from 0.

    Raises:
        InputError: If the list cannot be used (see `read_names`).
    """
    names = read_names(root, split, "Segmentation")
    return {
        number: Pair(f"{folder}JPEGImages/{stem}.jpg", f"{folder}{masks}/{stem}.png")
        for number, (folder, stem) in enumerate(names)
    }


def cityscapes_pairs(root: Path, split: str) -> dict[int, Pair]:
    """List the images `leftImg8bit/{split}/CITY/*_leftImg8bit.png` with their `gtFine` masks.

    Args:
        root: Folder that holds `leftImg8bit` and `gtFine`.
        split: Name of the split.

    Returns:
        The files by their place in the order of the cities and their images, from 0.

    Raises:
        InputError: If there is no image.
    """
    ending = "_leftImg8bit.png"
    folder = root / "leftImg8bit" / split
    images = sorted(path.relative_to(folder).as_posix() for path in folder.glob(f"*/*{ending}"))
    if not images:
        raise InputError(f"{folder}: no CITY/*{ending} in it; unpack leftImg8bit_trainvaltest.zip into {root}")
    return {
        number: Pair(f"leftImg8bit/{split}/{image}", f"gtFine/{split}/{image.removesuffix(ending)}_gtFine_labelIds.png")
        for number, image in enumerate(images)
    }


def folder_pairs(root: Path, images: str, masks: str, mask_suffix: str) -> dict[int, Pair]:
    """List the pictures of a folder with those of another that have the same names.

    Args:
        root: Folder that holds both.
        images: Folder of the images, relative to the root.
        masks: Folder of the masks, likewise.
        mask_suffix: What the name of a mask has after that of its image, before the dot.

    Returns:
        The files by their place in the order of the names, from 0. A mask that is missing is named as a PNG.

    Raises:
        InputError: If a folder is missing or the same, there is no image, two images have the same name but for the
            format, or a mask is a JPEG.
    """
    for folder in (images, masks):
        if not (root / folder).is_dir():
            raise InputError(f"{root / folder}: there is no such folder; make it, or name the right one")
    if (root / images).samefile(root / masks):
        raise InputError(f"{root / images}: is given for images and masks; put them into two folders")
    image_files, mask_files = _pictures(root / images), _pictures(root / masks)
    if not image_files:
        raise InputError(f"{root / images}: no picture in it; put the images there")
    pairs = {}
    for number, (stem, file) in enumerate(image_files.items()):
        mask = mask_files.get(stem + mask_suffix, f"{stem}{mask_suffix}.png")
        if mask.lower().endswith((".jpg", ".jpeg")):
            raise InputError(
                f"{root / masks / mask}: the mask is a JPEG, which blurs the numbers of the classes; make it a PNG from"
                " the source"
            )
        pairs[number] = Pair(f"{images}/{file}", f"{masks}/{mask}")
    return pairs


def _pictures(folder: Path) -> dict[str, str]:
    """Names of the pictures in a folder by their stems, sorted."""
    pictures: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in PICTURES and not path.name.startswith("."):
            if path.stem in pictures:
                raise InputError(f"{path}: there is also {pictures[path.stem]} in this folder; keep one of them")
            pictures[path.stem] = path.name
    return pictures
