"""The data set of shapes on disk: COCO and Pascal VOC layout side by side, and a manifest that says how it was made."""

import json
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as mask_utils

from mbdet.errors import InputError

# With gaps, as COCO's own ids have them: a reader that takes ids for labels shows it here.
CATEGORY_IDS = (1, 2, 4, 7, 8, 11)
VOID = 255
_MANIFEST = "shapes.json"
_OWN_ENTRIES = {_MANIFEST, "annotations", "train", "val", "VOC"}


class Instance(NamedTuple):
    """One annotated object of a scene."""

    label: int  # 0..K-1
    crowd: bool  # a group of shapes annotated as one region
    truncated: bool  # the image border cuts it


class Scene(NamedTuple):
    """An image with its annotation."""

    image: NDArray[np.uint8]  # (H, W, 3) RGB
    owner: NDArray[np.uint8]  # (H, W) 0 background, i + 1 where instances[i] is what one sees
    instances: list[Instance]


class Manifest(NamedTuple):
    """The numbers that a set follows from."""

    shapes_version: int
    seed: int
    num_train: int
    num_val: int
    height: int
    width: int


class SceneWriter:
    """Collects scenes in both layouts below one folder; complete after `finish`."""

    def __init__(self, root: Path, class_names: Sequence[str]) -> None:
        """Create the folders.

        Args:
            root: folder that receives `annotations/`, one image folder per split, and `VOC/`.
            class_names: one name per label.
        """
        self.root, self.voc = root, root / "VOC"
        self.class_names = class_names
        self.palette = voc_palette().tobytes()
        self.images: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.annotations: dict[str, list[dict[str, Any]]] = defaultdict(list)
        (root / "annotations").mkdir(parents=True)
        for name in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Main", "ImageSets/Segmentation"):
            (self.voc / name).mkdir(parents=True)

    def add(self, split: str, image_id: int, scene: Scene) -> None:
        """Write one scene's image and VOC files, and keep its COCO records for `finish`.

        Args:
            split: `train` or `val`; names the image folder.
            image_id: unique over all splits, because VOC keeps them in one folder.
            scene: what to write.
        """
        stem = f"{image_id:06d}"
        jpeg = self.root / split / f"{stem}.jpg"
        jpeg.parent.mkdir(exist_ok=True)
        Image.fromarray(scene.image).save(jpeg, quality=90)
        _link_or_copy(jpeg, self.voc / "JPEGImages" / jpeg.name)

        height, width = scene.owner.shape
        masks = [np.equal(scene.owner, i + 1).astype(np.uint8) for i in range(len(scene.instances))]
        boxes = [tuple(map(int, cv2.boundingRect(mask))) for mask in masks]
        record = {"id": image_id, "file_name": jpeg.name, "height": height, "width": width, "license": 1}
        self.images[split].append(record)
        for instance, mask, box in zip(scene.instances, masks, boxes, strict=True):
            number = 1 + sum(map(len, self.annotations.values()))
            self.annotations[split].append(_coco_annotation(number, image_id, instance, mask, box))

        xml = _voc_annotation(jpeg.name, height, width, scene.instances, boxes, self.class_names)
        xml.write(self.voc / "Annotations" / f"{stem}.xml")
        class_map = Image.fromarray(voc_class_map(scene))
        class_map.putpalette(self.palette)
        class_map.save(self.voc / "SegmentationClass" / f"{stem}.png")

    def finish(self, manifest: Manifest) -> None:
        """Write the COCO JSON files and VOC image lists of all scenes added, and the manifest.

        Args:
            manifest: how the scenes were made.
        """
        for split, images in self.images.items():
            document = {
                "info": {"description": "mbdet shapes", "version": "1.0"},
                "licenses": [{"id": 1, "name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"}],
                "categories": [
                    {"id": category_id, "name": name, "supercategory": "shape"}
                    for category_id, name in zip(CATEGORY_IDS, self.class_names, strict=True)
                ],
                "images": images,
                "annotations": self.annotations[split],
            }
            (self.root / "annotations" / f"instances_{split}.json").write_text(json.dumps(document))
            stems = "".join(f"{image['id']:06d}\n" for image in images)
            for task in ("Main", "Segmentation"):
                (self.voc / "ImageSets" / task / f"{split}.txt").write_text(stems)
        (self.root / _MANIFEST).write_text(json.dumps(manifest._asdict(), indent=2) + "\n")


def is_made(root: Path, manifest: Manifest) -> bool:
    """Whether a folder holds this set already.

    Args:
        root: the folder; need not exist.
        manifest: how the set is to be made.

    Returns:
        True if the set is there and complete, False if it may be made there.

    Raises:
        InputError: making the set there would delete something else.
    """
    try:
        entries = {path.name for path in root.iterdir()}
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        raise InputError(f"{root}: is a file; give a folder for the data set of shapes") from None
    found = _read_manifest(root)
    if found == manifest._asdict() and _is_complete(root, manifest):
        return True
    foreign = entries if found is None else entries - _OWN_ENTRIES
    if foreign:
        raise InputError(f"{root}: holds {min(foreign)}, which is not from the data set of shapes; give another folder")
    return False


def install(draft: Path, old: Path, root: Path, manifest: Manifest) -> None:
    """Move a finished set to its place, unless another process was faster.

    Args:
        draft: folder of the finished set.
        old: where to move a set of other parameters that `root` holds.
        root: the place; on the same file system.
        manifest: how the set was made.

    Raises:
        InputError: something else has appeared at `root`.
    """
    if is_made(root, manifest):
        return
    try:
        if root.exists():
            root.rename(old)
        draft.rename(root)
    except OSError:
        if not is_made(root, manifest):
            raise


def _read_manifest(root: Path) -> dict[str, int] | None:
    try:
        found = json.loads((root / _MANIFEST).read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "shapes_version" in found else None


def _is_complete(root: Path, manifest: Manifest) -> bool:
    num_images = manifest.num_train + manifest.num_val
    expected = {
        "annotations/*.json": 2,
        "train/*.jpg": manifest.num_train,
        "val/*.jpg": manifest.num_val,
        "VOC/JPEGImages/*.jpg": num_images,
        "VOC/Annotations/*.xml": num_images,
        "VOC/SegmentationClass/*.png": num_images,
        "VOC/ImageSets/*/*.txt": 4,
    }
    return all(sum(1 for _ in root.glob(pattern)) >= count for pattern, count in expected.items())


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)


def _coco_annotation(
    number: int, image_id: int, instance: Instance, mask: NDArray[np.uint8], box: tuple[int, ...]
) -> dict[str, Any]:
    polygon = None if instance.crowd else mask_to_polygon(mask)
    return {
        "id": number,
        "image_id": image_id,
        "category_id": CATEGORY_IDS[instance.label],
        "bbox": list(box),
        "area": int(mask.sum()),
        "iscrowd": int(instance.crowd),
        "segmentation": _mask_to_rle(mask) if polygon is None else [polygon],
    }


def mask_to_polygon(mask: NDArray[np.uint8]) -> list[int] | None:
    """Trace a mask along the edges of its pixels, so that pycocotools rasterises exactly this mask again.

    Args:
        mask: (H, W) 0 or 1.

    Returns:
        Flat x, y, x, y, ... in pixels, pixel i reaching from i to i + 1; None where one polygon cannot say it,
        because the mask has several regions or holes.
    """
    # OpenCV's contours run through pixel centres. At twice the size every border pixel lies in one quarter of an
    # original pixel, and rounding moves it to that quarter's corner.
    x, y, w, h = cv2.boundingRect(mask)
    doubled = mask[y : y + h, x : x + w].repeat(2, axis=0).repeat(2, axis=1)
    contours, _ = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=(2 * x, 2 * y))
    if len(contours) != 1:
        return None
    corners = (contours[0][:, 0] + 1) // 2
    moved = (corners != np.roll(corners, 1, axis=0)).any(axis=1)
    return [int(value) for value in corners[moved].ravel()]


def _mask_to_rle(mask: NDArray[np.uint8]) -> dict[str, Any]:
    rle = mask_utils.encode(np.asfortranarray(mask))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def _voc_annotation(
    file_name: str,
    height: int,
    width: int,
    instances: Sequence[Instance],
    boxes: Sequence[tuple[int, ...]],
    class_names: Sequence[str],
) -> "ElementTree.ElementTree[ElementTree.Element]":
    root = ElementTree.Element("annotation")
    _add_fields(root, {"folder": "VOC", "filename": file_name})
    _add_fields(ElementTree.SubElement(root, "size"), {"width": width, "height": height, "depth": 3})
    _add_fields(root, {"segmented": 1})
    for instance, (x, y, w, h) in zip(instances, boxes, strict=True):
        node = ElementTree.SubElement(root, "object")
        _add_fields(node, {"name": class_names[instance.label], "pose": "Unspecified"})
        _add_fields(node, {"truncated": int(instance.truncated), "difficult": int(instance.crowd)})
        # VOC counts pixels from 1, and its corners are the first and the last pixel of the object.
        box = {"xmin": x + 1, "ymin": y + 1, "xmax": x + w, "ymax": y + h}
        _add_fields(ElementTree.SubElement(node, "bndbox"), box)
    ElementTree.indent(root)
    return ElementTree.ElementTree(root)


def _add_fields(node: ElementTree.Element, fields: Mapping[str, str | int]) -> None:
    for name, value in fields.items():
        ElementTree.SubElement(node, name).text = str(value)


def voc_class_map(scene: Scene) -> NDArray[np.uint8]:
    """Classes of a scene's pixels as VOC stores them.

    Args:
        scene: H x W pixels.

    Returns:
        (H, W) 0 background, 1..K classes, 255 on crowds and on a border of 2 px along every outline.
    """
    classes = [VOID if instance.crowd else instance.label + 1 for instance in scene.instances]
    class_map = np.array([0, *classes], np.uint8)[scene.owner]
    # An outline runs where a 3 x 3 neighbourhood knows two owners: one pixel wide on either side.
    outline = cv2.morphologyEx(scene.owner, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    class_map[outline] = VOID
    return class_map


def voc_palette() -> NDArray[np.uint8]:
    """VOC's colour map: the bits of the class index, dealt out to red, green and blue from the top bit down.

    Returns:
        (256, 3) RGB. As in VOCdevkit's VOClabelcolormap.m.
    """
    index = np.arange(256)
    channels = [sum(((index >> (3 * k + c)) & 1) << (7 - k) for k in range(3)) for c in range(3)]
    return np.stack(channels, axis=1).astype(np.uint8)
