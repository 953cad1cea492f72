"""Small data sets in the layouts of COCO and VOC."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Json = dict[str, Any]
MakeSplit = Callable[..., Path]
WriteVoc = Callable[..., Path]

# Ids out of order and with gaps, as in real files.
CATEGORIES = [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}, {"id": 90, "name": "brush"}]
IMAGES = [
    {"id": 7, "file_name": "a.png", "height": 40, "width": 60},
    {"id": 3, "file_name": "b.png", "height": 50, "width": 50},
    {"id": 5, "file_name": "sub/c.png", "height": 30, "width": 80},
]
ANNOTATIONS = [
    {"id": 100, "image_id": 3, "category_id": 90, "bbox": [10, 5, 20, 30]},
    {"id": 101, "image_id": 7, "category_id": 1, "bbox": [1.5, 2.25, 10, 20]},
    {"id": 102, "image_id": 3, "category_id": 18, "bbox": [-5, 40, 100, 30]},  # reaches out on three sides
    {"id": 103, "image_id": 3, "category_id": 18, "bbox": [0, 0, 50, 50], "iscrowd": 1},
]


@pytest.fixture
def make_split(tmp_path: Path) -> MakeSplit:
    """Return a function that writes one split, of three images unless told otherwise, and returns the root."""

    def make(
        split: str = "train2017",
        *,
        images: list[Json] = IMAGES,
        annotations: list[Json] = ANNOTATIONS,
        categories: list[Json] = CATEGORIES,
    ) -> Path:
        (tmp_path / "annotations").mkdir(exist_ok=True)
        content = {"images": images, "annotations": annotations, "categories": categories}
        (tmp_path / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
        for image in IMAGES:
            path = tmp_path / split / image["file_name"]
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(image["id"]).integers(0, 255, (image["height"], image["width"], 3))
            Image.fromarray(pixels.astype(np.uint8)).save(path)
        return tmp_path

    return make


@pytest.fixture
def write_voc(tmp_path: Path) -> WriteVoc:
    """Return a function that writes a folder in VOC's layout; each image has objects (name, difficult, corners)."""

    def write(
        objects: dict[str, list[tuple[str, int, tuple[Any, ...]]]],
        split: str = "trainval",
        folder: str = "",
        suffix: str = ".jpg",
    ) -> Path:
        root = tmp_path / "voc" / folder
        for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
            (root / name).mkdir(parents=True, exist_ok=True)
        for stem, records in objects.items():
            nodes = "".join(
                f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>"
                # Not in the usual order, which VOC2012 does not keep either.
                f"<xmax>{x2}</xmax><xmin>{x1}</xmin><ymax>{y2}</ymax><ymin>{y1}</ymin></bndbox>"
                "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part></object>"
                for name, difficult, (x1, y1, x2, y2) in records
            )
            size = "<size><width>60</width><height>40</height><depth>3</depth></size>"
            xml = f"<annotation><filename>{stem}{suffix}</filename>{size}{nodes}</annotation>"
            (root / "Annotations" / f"{stem}.xml").write_text(xml)
            pixels = np.random.default_rng(len(stem)).integers(0, 255, (40, 60, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(root / "JPEGImages" / f"{stem}{suffix}")
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in objects))
        return tmp_path / "voc"

    return write
