import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mbdet.data.coco import CocoDetection
from mbdet.data.detection_dataset import DetectionSample
from mbdet.data.voc import VocDetection
from mbdet.data.voc_records import read_voc
from mbdet.errors import InputError

WriteVoc = Callable[..., Path]

NAMES = ("cat", "dog")
OBJECTS = {
    "a": [("dog", 0, (1, 1, 60, 40)), ("cat", 1, (11, 6, 30, 35)), ("cat", 0, (2.5, 3.25, 10, 20))],
    "bb": [],
    "ccc": [("cat", 0, (0, 20, 70, 41)), ("dog", 1, (5, 5, 6, 6))],  # reaches out on three sides
}


def read(root: Path, split: str = "trainval", on_error: Any = "raise", **options: Any) -> VocDetection:
    return VocDetection(read_voc(root, split, on_error), NAMES, on_error=on_error, **options)


def sample(dataset: VocDetection, index: int) -> DetectionSample:
    result = dataset[index]
    assert result is not None
    return result


def refused(*words: str) -> Any:
    """Expect an InputError of one line that holds all the words."""
    return pytest.raises(InputError, match="^" + "".join(f"(?=.*{word})" for word in words) + "[^\n]*$")


# Reading


def test_boxes_reach_from_edge_to_edge_and_difficult_objects_are_no_targets(write_voc: WriteVoc) -> None:
    dataset = read(write_voc(OBJECTS))
    assert dataset.class_names == NAMES
    assert dataset.image_ids.tolist() == [0, 1, 2]
    assert dataset.max_objects == 2
    first, empty, last = (sample(dataset, i) for i in range(3))
    assert (first.image.shape, first.size) == ((40, 60, 3), (40, 60))
    assert first.boxes.tolist() == [[0, 0, 60, 40], [1.5, 2.25, 10, 20]]
    assert first.labels.tolist() == [1, 0]
    assert (empty.boxes.shape, empty.image_id) == ((0, 4), 1)
    assert last.boxes.tolist() == [[0, 19, 60, 40]]


def test_difficult_objects_become_targets_when_asked(write_voc: WriteVoc) -> None:
    dataset = read(write_voc(OBJECTS), difficult=True)
    assert dataset.max_objects == 3
    assert sample(dataset, 0).boxes.tolist() == [[0, 0, 60, 40], [10, 5, 30, 35], [1.5, 2.25, 10, 20]]
    assert sample(dataset, 2).labels.tolist() == [0, 1]


def test_the_coco_document_keeps_difficult_objects(write_voc: WriteVoc) -> None:
    document = read(write_voc(OBJECTS)).to_coco()
    assert document["images"][2] == {"id": 2, "file_name": "JPEGImages/ccc.jpg", "height": 40, "width": 60}
    assert document["categories"] == [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]
    assert [(a["image_id"], a["category_id"], a["bbox"], a["iscrowd"]) for a in document["annotations"]] == [
        (0, 1, [0, 0, 60, 40], 0),
        (0, 0, [10, 5, 20, 30], 1),
        (0, 0, [1.5, 2.25, 8.5, 17.75], 0),
        (2, 0, [0, 19, 60, 21], 0),
        (2, 1, [4, 4, 2, 2], 1),
    ]
    assert [a["id"] for a in document["annotations"]] == [1, 2, 3, 4, 5]
    json.dumps(document)


@pytest.mark.parametrize("split", ["train", "val"])
def test_boxes_of_the_same_scenes_equal_those_in_coco_layout(shapes: Path, split: str) -> None:
    coco = CocoDetection(shapes / f"annotations/instances_{split}.json", shapes / split)
    records = read_voc(shapes / "VOC", split, "raise")
    dataset = VocDetection(records, coco.class_names)
    assert len(dataset) == len(coco) > 0
    for one, other in zip(dataset, coco, strict=True):
        assert one is not None
        assert other is not None
        np.testing.assert_array_equal(one.boxes, other.boxes)
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_array_equal(one.image, other.image)
    crowds = json.loads((shapes / f"annotations/instances_{split}.json").read_text())["annotations"]
    assert sum(object_.difficult for object_ in records.objects) == sum(crowd["iscrowd"] for crowd in crowds)


@pytest.mark.parametrize(
    ("text", "stems"),
    [
        ("a  1\nbb -1\nccc  0\n", ["a", "bb", "ccc"]),
        ("\ufeffccc\r\n\r\n a \r\n", ["ccc", "a"]),
        ("x y 1\nbb\n", ["x y 1", "bb"]),  # not every line has a second column, so none has
    ],
)
def test_lists_of_images(write_voc: WriteVoc, text: str, stems: list[str]) -> None:
    root = write_voc({**OBJECTS, "x y 1": []})
    (root / "ImageSets/Main/trainval.txt").write_text(text, encoding="utf-8")
    assert read(root).annotations.tolist() == [f"Annotations/{stem}.xml" for stem in stems]


def test_years_are_joined_and_their_equal_names_kept_apart(write_voc: WriteVoc) -> None:
    write_voc({"a": [("dog", 0, (1, 1, 10, 10))]}, "trainval", "VOC2007")
    root = write_voc({"a": [("cat", 0, (1, 1, 20, 20))], "bb": []}, "train", "VOC2012")
    dataset = read(root, "VOC2007/trainval+VOC2012/train")
    assert dataset.image_ids.tolist() == [0, 1, 2]
    assert dataset.annotations[:2].tolist() == ["VOC2007/Annotations/a.xml", "VOC2012/Annotations/a.xml"]
    assert [sample(dataset, i).labels.tolist() for i in range(3)] == [[1], [0], []]


def test_other_suffixes_are_found_by_the_file_name_inside(write_voc: WriteVoc) -> None:
    root = write_voc({"a": [], "bb": []}, suffix=".png")
    write_voc({"a": []}, "train")  # now there is an a.jpg too
    xml = root / "Annotations/a.xml"
    xml.write_text(xml.read_text().replace("a.jpg", "bb.png"))
    files = [image.file for image in read_voc(root, "trainval", "raise").images]
    assert files == ["JPEGImages/a.jpg", "JPEGImages/bb.png"]


@pytest.mark.parametrize(
    "size", ["", "<size><width>0</width><height>0</height></size>", "<size><width>x</width></size>"]
)
def test_without_a_size_the_image_says_it(write_voc: WriteVoc, size: str) -> None:
    root = write_voc({"a": []})
    (root / "Annotations/a.xml").write_text(f"<annotation>{size}</annotation>")
    assert sample(read(root), 0).size == (40, 60)


def test_bccd_as_published(real_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = real_data / "bccd"
    counts = {}
    for split in ("train", "val", "test"):
        records = read_voc(root, split, "skip")
        counts[split] = len(records.images), len(records.objects)
        assert {object_.class_name for object_ in records.objects} == {"RBC", "WBC", "Platelets"}
    assert counts == {"train": (205, 2804), "val": (87, 1137), "test": (72, 945)}  # 2 of 4888 boxes are points
    assert ["left out 1 boxes" in message for message in caplog.messages] == [True, True]
    with refused("BloodImage_00343.xml", "object 4", "RBC", "xmin=181 ymin=329 xmax=181 ymax=329", "no width"):
        read_voc(root, "train", "raise")
    with refused("BloodImage_00338.xml", r"object 13", "RBC", "xmin=504 ymin=337 xmax=504 ymax=337", "no width"):
        read_voc(root, "val", "raise")


# Bad objects

BAD_BOXES = {
    "no width and height": [(5, 5, 5, 9), (5, 5, 9, 5), (9, 5, 5, 9), (5, 9, 9, 5)],
    "not four numbers": [(5, 5, "", 9), ("5px", 5, 9, 9), (5, "<b/>", 9, 9)],
    "no finite place": [(5, 5, "inf", 9), (5, 5, 9, "nan"), ("nan", 5, 9, 9), (-1e12, 5, 9, 9)],
    r"no area within its image of 60x40 \(width x height\)": [(61, 5, 70, 9), (5, 41, 9, 50), (-9, 5, 0, 9)],
}


@pytest.mark.parametrize(("reason", "box"), [(reason, box) for reason, boxes in BAD_BOXES.items() for box in boxes])
def test_bad_boxes(write_voc: WriteVoc, caplog: pytest.LogCaptureFixture, reason: str, box: Any) -> None:
    root = write_voc({"a": [("dog", 0, (1, 2, 3, 4))], "bb": [("dog", 0, (1, 2, 3, 4)), ("cat", 0, box)]})
    with refused("Annotations/bb.xml", r"object 2 \(cat\)", reason, "correct or remove", "on_error='skip'"):
        read(root)
    dataset = read(root, on_error="skip")
    assert sample(dataset, 1).boxes.tolist() == [[0, 1, 3, 4]]
    (line,) = caplog.messages
    assert "trainval.txt: left out 1 boxes; first: " in line
    assert "bb.xml: object 2 (cat)" in line


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("<name>dog</name>", "<name> </name>"), ["has no name"]),
        (("<name>dog</name>", ""), ["has no name"]),
        (("<name>dog</name>", "<name>Dog</name>"), ["'Dog' is not among the 2 class names", "add it to class_names"]),
        (("<difficult>0<", "<difficult>maybe<"), ["difficult is 'maybe', not 0 or 1"]),
        (("<bndbox>", "<box>"), ["not four numbers"]),
    ],
)
def test_other_bad_objects(
    write_voc: WriteVoc, caplog: pytest.LogCaptureFixture, change: tuple[str, str], words: list[str]
) -> None:
    root = write_voc({"a": [("dog", 0, (1, 2, 3, 4))]})
    xml = root / "Annotations/a.xml"
    closing = change[0] == "<bndbox>"
    text = xml.read_text().replace(*change, 1)
    xml.write_text(text.replace("</bndbox>", "</box>", 1) if closing else text)
    with refused("a.xml", "object 1", *words, "on_error='skip'"):
        read(root)
    assert len(sample(read(root, on_error="skip"), 0).boxes) == 0
    assert "left out 1 boxes" in caplog.messages[0]


def test_no_difficult_means_not_difficult(write_voc: WriteVoc) -> None:
    root = write_voc({"a": [("dog", 1, (1, 2, 3, 4))]})
    xml = root / "Annotations/a.xml"
    xml.write_text(xml.read_text().replace("<difficult>1</difficult>", ""))
    assert len(sample(read(root), 0).boxes) == 1


# Bad files

BOMB = '<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;">]><annotation><filename>&y;</filename></annotation>'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["not valid XML", "cut short"]),
        (b"<annotation><object>", ["not valid XML", "cut short"]),
        (b"\xff\xd8\xff\xe0 a picture", ["not valid XML"]),
        (b"<?xml version='1.0' encoding='no-such'?><annotation/>", ["not valid XML"]),
        (b"<?xml version='1.0' encoding='shift_jis'?><annotation/>", ["not valid XML"]),
        (b"<html></html>", ["<html>, not <annotation>"]),
        (BOMB.encode(), ["has a DOCTYPE"]),
        (BOMB.encode("utf-16"), ["has a DOCTYPE"]),
    ],
)
def test_bad_annotation_files(
    write_voc: WriteVoc, caplog: pytest.LogCaptureFixture, content: bytes, words: list[str]
) -> None:
    root = write_voc(OBJECTS)
    (root / "Annotations/a.xml").write_bytes(content)
    with refused("Annotations/a.xml", *words, "correct the file", "on_error='skip'"):
        read(root)
    assert read(root, on_error="skip").image_ids.tolist() == [1, 2]
    assert "left out 1 images; first: " in caplog.messages[0]
    for stem in OBJECTS:
        (root / "Annotations" / f"{stem}.xml").write_bytes(content)
    with refused("trainval.txt", "none of the 3 annotation files"):
        read(root, on_error="skip")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.99])
def test_truncated_annotations(write_voc: WriteVoc, share: float) -> None:
    xml = (root := write_voc(OBJECTS)) / "Annotations/a.xml"
    xml.write_text(xml.read_text()[: int(share * len(xml.read_text()))])
    with refused("a.xml", "not valid XML", "perhaps cut short"):
        read(root)


@pytest.mark.parametrize(
    ("folder", "suffix", "words"),
    [
        ("Annotations", ".xml", ["2 of 3 annotation files are missing", "first Annotations/a.xml"]),
        ("JPEGImages", ".jpg", ["2 of 3 images are missing", "first JPEGImages/a.jpg"]),
    ],
)
def test_missing_files_are_counted(
    write_voc: WriteVoc, caplog: pytest.LogCaptureFixture, folder: str, suffix: str, words: list[str]
) -> None:
    root = write_voc(OBJECTS)
    for stem in ("a", "bb"):
        (root / folder / f"{stem}{suffix}").unlink()
    with refused("trainval.txt", *words, "copy them there", "on_error='skip'"):
        read(root)
    dataset = read(root, on_error="skip")
    assert dataset.image_ids.tolist() == [2]  # still its place in the list
    assert sample(dataset, 0).boxes.tolist() == [[0, 19, 60, 40]]
    assert "left out 2 images" in caplog.messages[0]
    (root / folder / f"ccc{suffix}").unlink()
    with refused("none of the 3"):
        read(root, on_error="skip")


def test_an_unreadable_annotation_file_is_named(write_voc: WriteVoc) -> None:
    xml = (root := write_voc(OBJECTS)) / "Annotations/a.xml"
    xml.unlink()
    xml.symlink_to(root)  # listed as a file, but none
    with refused("a.xml", "cannot be read"):
        read(root)


OUTSIDE = ["/etc/passwd", "../a", "s/../../a", "..\\a", "C:\\a"]


@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize("stem", [*OUTSIDE, "a\0b"])
def test_listed_names_outside_the_folder_are_always_refused(write_voc: WriteVoc, stem: str, on_error: str) -> None:
    root = write_voc(OBJECTS)
    (root / "ImageSets/Main/trainval.txt").write_text(f"a\n{stem}\n")
    with refused("trainval.txt", "not a path below the image folder"):
        read(root, on_error=on_error)


@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize("filename", OUTSIDE)
def test_file_names_outside_the_folder_are_always_refused(write_voc: WriteVoc, filename: str, on_error: str) -> None:
    root = write_voc(OBJECTS)
    (root / "Annotations/a.xml").write_text(f"<annotation><filename>{filename}</filename></annotation>")
    assert len(read(root)) == 3  # not looked at as long as there is a.jpg
    (root / "JPEGImages/a.jpg").unlink()
    with refused("Annotations/a.xml", "filename", "not a path below the image folder", "JPEGImages/a.jpg"):
        read(root, on_error=on_error)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, ["no such list of images", r"VOC2007/trainval\+VOC2012/trainval"]),
        ("\n \n", ["lists no image", "one image per line"]),
        ("a\nbb\na\n", ["lists image 'a' twice", "remove one"]),
        (b"\xff\xfe\xfa", ["cannot be read"]),
    ],
)
def test_bad_lists_of_images(write_voc: WriteVoc, text: Any, words: list[str]) -> None:
    root = write_voc(OBJECTS)
    file = root / "ImageSets/Main/trainval.txt"
    file.unlink()
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with refused("ImageSets/Main/trainval.txt", *words):
        read(root, on_error="skip")


def test_parts_of_a_split_may_not_overlap(write_voc: WriteVoc) -> None:
    write_voc({"a": []}, "train")
    root = write_voc({"a": [], "bb": []}, "trainval")
    with refused("trainval.txt", r"'train\+trainval' lists image 'a' twice"):
        read(root, "train+trainval")


def test_a_size_that_disagrees_with_the_image(write_voc: WriteVoc, caplog: pytest.LogCaptureFixture) -> None:
    xml = (root := write_voc(OBJECTS)) / "Annotations/a.xml"
    xml.write_text(xml.read_text().replace("<height>40<", "<height>41<"))
    with refused("a.jpg", "60x40", "60x41", "correct the record", "annotated in .*Annotations/a.xml"):
        read(root)[0]
    assert read(root, on_error="skip")[0] is None
    assert sample(read(root, on_error="skip", train=True), 0).image_id == 1
    assert "a.jpg" in caplog.messages[0]
