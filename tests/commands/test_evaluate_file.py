"""Annotations that are not those of an exported file."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import mbdet
from mbdet.commands.evaluate_file import evaluate_file
from mbdet.errors import InputError


def test_the_class_that_differs_is_named(small_onnx: Callable[[str], Path], tmp_path: Path) -> None:
    weights, annotations = small_onnx("detection"), tmp_path / "instances.json"
    names = list(mbdet.load(weights).class_names)

    def check(given: list[str], message: str) -> None:
        categories = [{"id": number, "name": name} for number, name in enumerate(given, 1)]
        box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 4, 4], "area": 16, "iscrowd": 0}
        image = {"id": 1, "file_name": "a.png", "width": 9, "height": 9}
        annotations.write_text(json.dumps({"images": [image], "annotations": [box], "categories": categories}))
        with pytest.raises(InputError, match=message):
            evaluate_file(weights, annotations, tmp_path, None)

    count = len(names)
    check([names[0], "zebra", *names[2:]], rf"its {count} categories .*, number 2 is zebra instead of {names[1]}; give")
    check([*names, "zebra"], rf"its {count + 1} categories are not the {count} classes .* first of which is {names[0]}")
