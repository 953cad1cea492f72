"""What is said about an exported file, for every layout and task."""

from pathlib import Path
from typing import Any

import pytest

from mbdet.errors import InputError
from mbdet.runtime.contract import contract

DECODING = {
    "scores": "sigmoid",
    **{"score_threshold": 0.01, "iou_threshold": 0.6},
    **{"max_candidates": 1000, "max_per_class": 100, "max_detections": 50},
}


def describe(**changes: Any) -> dict[str, Any]:
    """Return the description of a segmenter's file."""
    image = {
        **{"name": "images", "batch": 1, "layout": "NCHW", "size": [48, 96], "color": "RGB", "dtype": "uint8"},
        **{"resize": "stretch", "interpolation": "bilinear, antialiased"},
    }
    return {
        "task": "segmentation",
        "class_names": ["sky", "sea"],
        "input": image | changes.pop("input", {}),
        "output": {"classes": "indices into class_names"},
        "output_types": {"classes": {"shape": [1, 48, 96], "dtype": "uint8"}},
        **changes,
    }


def rows(description: dict[str, Any]) -> dict[str, list[str]]:
    """Return the cells of each row by its first."""
    lines = contract(Path("folder/m.any"), description).splitlines()
    cells = ([cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| "))
    return {first: rest for first, *rest in cells}


def test_all_that_a_segmenter_has() -> None:
    text = contract(Path("folder/m.any"), describe(precision="int8"))
    assert text.endswith("\n\nclass_names: 0 sky, 1 sea\n")
    found = rows(describe(precision="int8"))
    assert found["file"] == ["m.any"]
    assert found["precision"] == ["int8"]
    assert found["input"] == ["images"]
    assert found["shape"] == ["(1, 3, 48, 96): image, colour, row, column (NCHW)"]
    assert found["values"] == ["uint8, 0 to 255, RGB; normalised inside, not before"]
    assert found["size"] == ["stretched to 48 x 96 (height x width), whatever its aspect"]
    assert found["interpolation"] == ["bilinear, antialiased, as Pillow's `BILINEAR`"]
    assert found["`classes`"] == ["(1, 48, 96)", "uint8", "indices into class_names"]
    assert not {"crop", "padding", "decoding"} & set(found)


@pytest.mark.parametrize(
    ("changes", "shape"),
    [
        ({"layout": "NHWC"}, "(1, 48, 96, 3): image, row, column, colour (NHWC)"),
        ({"batch": None}, "(B, 3, 48, 96): image, colour, row, column (NCHW)"),
        ({"layout": "CHW", "dtype": "float32"}, "(3, 48, 96): colour, row, column (CHW)"),
        ({"layout": "image"}, "a picture of 48 rows and 96 columns"),
    ],
)
def test_layouts(changes: dict[str, Any], shape: str) -> None:
    assert rows(describe(input=changes))["shape"] == [shape]


@pytest.mark.parametrize(("resizing", "words"), [("fit", "until it just fits"), ("pad", "where it is larger")])
def test_pictures_that_keep_their_aspect(resizing: str, words: str) -> None:
    found = rows(describe(input={"resize": resizing, "padding_color": [124, 116, 104]}))
    assert words in found["size"][0]
    assert found["padding"] == [
        "the rest has RGB (124, 116, 104); of a map of pixels, only the top-left part belongs to the picture"
    ]


def test_a_classifier_s_crop() -> None:
    described = describe(
        task="classification",
        input={"central_crop": 0.875},
        output={"probabilities": "of each | class"},
        output_types={"probabilities": {"shape": [None, 2], "dtype": "float32"}},
    )
    assert rows(described)["crop"] == ["first the central part of a picture, 0.875 of its height and of its width"]
    assert "| `probabilities` | (B, 2) | float32 | of each \\| class |" in contract(Path("m"), described)


@pytest.mark.parametrize(
    ("outputs", "where"),
    [
        (("anchor_boxes", "class_scores"), "still to be done"),
        (("boxes", "scores", "labels", "counts"), "done inside"),
    ],
)
def test_decoding(outputs: tuple[str, ...], where: str) -> None:
    described = describe(
        task="detection",
        decoding=DECODING,
        output=dict.fromkeys(outputs, "a thing"),
        output_types={name: {"shape": [1, 5], "dtype": "float32"} for name in outputs},
    )
    found = rows(described)
    assert found["decoding"][1].endswith(where)
    assert [(name, found[f"`{name}`"][0]) for name in ("score_threshold", "max_candidates", "max_detections")] == [
        ("score_threshold", "0.01"),
        ("max_candidates", "1000"),
        ("max_detections", "50"),
    ]


def test_the_names_of_ncnn() -> None:
    blobs = {"anchor_boxes": "out0", "class_scores": "out1"}
    described = describe(
        task="detection",
        decoding=DECODING,
        input={"name": "in0", "layout": "CHW", "dtype": "float32"},
        output=dict.fromkeys(blobs, "a thing"),
        output_types={name: {"shape": [5, 4], "dtype": "float32"} for name in blobs},
        blobs=blobs,
    )
    found = rows(described)
    assert found["input"] == ["in0"]
    assert found["output, in this order"] == ["blob", "shape", "type", "meaning"]
    assert found["`class_scores`"] == ["`out1`", "(5, 4)", "float32", "a thing"]
    assert found["output, in this order"][1:] == rows({**described, "blobs": {}})["output, in this order"]


def test_descriptions_that_do_not_say_all() -> None:
    for types in ({}, None, 3):
        with pytest.raises(
            InputError, match=r"m\.any: output_types, the shapes, are missing in its description; export"
        ):
            contract(Path("m.any"), describe(output_types=types))
    with pytest.raises(InputError, match="resize of input in its description is missing or damaged"):
        contract(Path("m.any"), describe(input={"resize": None}))
    with pytest.raises(
        InputError, match=r"m\.any: its description lacks something or is damaged \(.*dtype.*\); export"
    ):
        contract(Path("m.any"), describe(output_types={"classes": {"shape": [1, 48, 96]}}))
