import json
import logging
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mbdet.data.coco import CocoDetection
from mbdet.data.detection_dataset import DetectionSample
from mbdet.data.masks import decode_segmentation
from mbdet.data.transforms import eval_transform
from mbdet.errors import InputError

MakeSplit = Callable[..., Path]


def read(root: Path, **options: Any) -> CocoDetection:
    return CocoDetection(root / "annotations/instances_train2017.json", root / "train2017", **options)


def sample(dataset: CocoDetection, index: int) -> DetectionSample:
    result = dataset[index]
    assert result is not None
    return result


def refused(*words: str) -> Any:
    """Expect an InputError of one line that holds all the words."""
    return pytest.raises(InputError, match="^" + "".join(f"(?=.*{word})" for word in words) + "[^\n]*$")


def one_box(bbox: Any, **changes: Any) -> dict[str, Any]:
    return {"id": 9, "image_id": 7, "category_id": 1, "bbox": bbox} | changes


# Reading


def test_samples(make_split: MakeSplit) -> None:
    root = make_split()
    dataset = read(root)
    assert len(dataset) == 3
    assert dataset.category_ids == (1, 18, 90)
    assert dataset.class_names == ("person", "dog", "brush")
    assert dataset.max_objects == 2
    first, second, empty = (sample(dataset, i) for i in range(3))

    assert (first.image_id, first.size) == (7, (40, 60))
    np.testing.assert_array_equal(first.image, np.array(Image.open(root / "train2017/a.png")))
    assert first.boxes.tolist() == [[1.5, 2.25, 11.5, 22.25]]
    assert first.labels.tolist() == [0]

    assert second.boxes.tolist() == [[10, 5, 30, 35], [0, 40, 50, 50]]  # clipped; the crowd is out
    assert second.labels.tolist() == [2, 1]

    assert empty.image_id == 5
    assert empty.boxes.shape == (0, 4)
    assert (empty.boxes.dtype, empty.labels.dtype) == (np.float32, np.int64)


def test_indices_are_those_of_a_sequence(make_split: MakeSplit) -> None:
    dataset = read(make_split())
    assert sample(dataset, -1).image_id == 5
    with pytest.raises(IndexError):
        dataset[3]


def test_samples_do_not_share_memory_with_the_data_set(make_split: MakeSplit) -> None:
    dataset = read(make_split())
    for part in sample(dataset, 1)[:3]:
        part[:] = 0
    assert sample(dataset, 1).boxes.tolist() == [[10, 5, 30, 35], [0, 40, 50, 50]]
    assert sample(dataset, 1).labels.tolist() == [2, 1]


def test_a_data_set_can_be_sent_to_a_spawned_worker(make_split: MakeSplit) -> None:
    dataset = pickle.loads(pickle.dumps(read(make_split(), transform=eval_transform((20, 30)))))
    assert sample(dataset, 0).boxes == pytest.approx(np.array([[0.75, 1.125, 5.75, 11.125]]))


def test_a_size_that_the_record_lacks_comes_from_the_file(make_split: MakeSplit) -> None:
    dataset = read(
        make_split(images=[{"id": 3, "file_name": "b.png"}], annotations=[one_box([40, 0, 99, 9], image_id=3)])
    )
    assert sample(dataset, 0).size == (50, 50)
    assert sample(dataset, 0).boxes.tolist() == [[40, 0, 50, 9]]


def test_windows_paths_below_the_folder_are_read(make_split: MakeSplit) -> None:
    assert len(read(make_split(images=[{"id": 5, "file_name": "sub\\c.png"}], annotations=[]))) == 1


def test_a_byte_order_mark_is_read(make_split: MakeSplit) -> None:
    path = make_split() / "annotations/instances_train2017.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read(path.parents[1])) == 3


def test_real_boxes_and_masks_are_those_of_pycocotools(real_data: Path) -> None:
    file = real_data / "coco/annotations/instances_val2017.json"
    dataset, reference = CocoDetection(file, real_data / "coco/val2017", masks=True), COCO(str(file))
    assert dataset.category_ids == tuple(reference.getCatIds())
    assert dataset.image_ids.tolist() == list(reference.imgs)
    for index in range(0, 100, 4):
        item = sample(dataset, index)
        annotations = reference.loadAnns(reference.getAnnIds(item.image_id, iscrowd=False))
        xywh = np.array([a["bbox"] for a in annotations]).reshape(-1, 4)
        assert item.boxes == pytest.approx(np.hstack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]]), abs=0.02)
        assert [dataset.category_ids[label] for label in item.labels] == [a["category_id"] for a in annotations]
        for mask, annotation in zip(dataset.instance_masks(index), annotations, strict=True):
            np.testing.assert_array_equal(mask, reference.annToMask(annotation).astype(bool))


# Bad files


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with refused("instances_train2017.json", "no such annotation file"):
        read(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.31, 0.32, 0.33, 0.8, 0.99])
def test_a_truncated_file_is_called_so(make_split: MakeSplit, share: float) -> None:
    path = make_split() / "annotations/instances_train2017.json"
    text = path.read_text().replace(", ", ",\n")
    path.write_text(text[: int(share * len(text))])
    with refused("instances_train2017.json", r"line \d+ column \d+", "looks truncated"):
        read(path.parents[1])


def test_a_typing_error_is_not_called_a_truncation(make_split: MakeSplit) -> None:
    path = make_split() / "annotations/instances_train2017.json"
    path.write_text(path.read_text().replace('"annotations":', '"annotations"'))
    with refused("line 1 column", "correct it there"):
        read(path.parents[1])


@pytest.mark.parametrize(
    "content", [[], {}, {"images": [], "annotations": {}, "categories": []}, {"images": ["a.png"]}]
)
def test_other_json_is_refused(make_split: MakeSplit, content: Any) -> None:
    root = make_split()
    (root / "annotations/instances_train2017.json").write_text(json.dumps(content))
    with refused("instances_train2017.json", "not an instances file", "annotations"):
        read(root)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": [{"id": 7, "file_name": "a.png"}, {"id": 7, "file_name": "b.png"}]}, ["image id 7", "twice"]),
        ({"images": [{"id": "7", "file_name": "a.png"}]}, ["image id '7'", "not a whole number"]),
        ({"images": []}, ["lists no image"]),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, ["category id 1", "twice"]),
        ({"categories": []}, ["lists no category"]),
    ],
)
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_what_no_record_can_be_read_without_is_refused(
    make_split: MakeSplit, changes: dict[str, Any], words: list[str], on_error: str
) -> None:
    root = make_split(**changes)
    with refused("instances_train2017.json", *words):
        read(root, on_error=on_error)


@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize(
    "name",
    ["/etc/a.png", "../a.png", "sub/../../a.png", "..\\a.png", "sub\\..\\..\\a.png", "C:\\a.png", "", None, "a\0b"],
)
def test_file_names_outside_the_folder_are_always_refused(make_split: MakeSplit, name: Any, on_error: str) -> None:
    root = make_split(images=[{"id": 3, "file_name": "b.png"}, {"id": 7, "file_name": name}])
    with refused("instances_train2017.json", "image 7", "not a path below the image folder"):
        read(root, on_error=on_error)


# Bad records

BAD_BOXES = {
    "no positive width": [[3, 3, 0, 5], [3, 3, 5, -1], [3, 3, math.nan, 5], [math.nan, 3, 5, 5], [3, 3, math.inf, 5]],
    "not four numbers": [[3, 3, 5], [3, 3, 5, 5, 1], None, "3355", [3, 3, "5", 5]],
    r"no area within its image of 60x40 \(width x height\)": [[60, 3, 5, 5], [3, -9, 5, 9], [3, 40.5, 5, 5]],
}


@pytest.mark.parametrize(("reason", "bbox"), [(reason, bbox) for reason, boxes in BAD_BOXES.items() for bbox in boxes])
def test_bad_boxes(make_split: MakeSplit, caplog: pytest.LogCaptureFixture, reason: str, bbox: Any) -> None:
    root = make_split(annotations=[one_box([1, 2, 3, 4]), one_box(bbox, id=77), one_box(bbox, id=78)])
    with refused(
        "instances_train2017.json", "annotation 77", "image 7", reason, "correct or remove", "on_error='skip'"
    ):
        read(root)
    assert sample(read(root, on_error="skip"), 0).boxes.tolist() == [[1, 2, 4, 6]]
    (line,) = caplog.messages
    assert "left out 2 boxes" in line
    assert "annotation 77" in line


@pytest.mark.parametrize("change", [{"category_id": 2}, {"image_id": 8}, {"image_id": "7"}, {"image_id": [7]}])
def test_ids_that_are_not_listed(make_split: MakeSplit, change: dict[str, Any]) -> None:
    root = make_split(annotations=[one_box([1, 2, 3, 4], **change)])
    with refused("annotation 9", next(iter(change)) if change != {"image_id": [7]} else "image", "correct or remove"):
        read(root)
    assert len(sample(read(root, on_error="skip"), 0).boxes) == 0


def test_missing_images_are_counted(make_split: MakeSplit, caplog: pytest.LogCaptureFixture) -> None:
    root = make_split()
    (root / "train2017/a.png").unlink()
    (root / "train2017/sub/c.png").unlink()
    with refused("2 of 3 images are missing", "train2017", "a.png", "image 7", "copy them"):
        read(root)
    dataset = read(root, on_error="skip")
    assert [sample(dataset, i).image_id for i in range(len(dataset))] == [3]
    assert sample(dataset, 0).boxes.tolist() == [[10, 5, 30, 35], [0, 40, 50, 50]]
    (line,) = caplog.messages
    assert "left out 2 images" in line
    assert "a.png" in line
    (root / "train2017/b.png").unlink()
    with refused("none of the 3 images"):
        read(root, on_error="skip")


def test_a_missing_folder_is_named(make_split: MakeSplit) -> None:
    root = make_split()
    (root / "train2017").rename(root / "elsewhere")
    with refused("train2017", "no such image folder"):
        read(root)


@pytest.fixture
def one_is_broken(make_split: MakeSplit) -> Path:
    root = make_split()
    file = root / "train2017/b.png"
    file.write_bytes(file.read_bytes()[:1000])
    return root


def test_an_unreadable_image_raises(one_is_broken: Path) -> None:
    dataset = read(one_is_broken)
    with refused("b.png", "cannot be read", "image 3 of .*instances_train2017.json"):
        dataset[1]


def test_a_size_that_disagrees_with_the_file_raises(make_split: MakeSplit) -> None:
    root = make_split(images=[{"id": 7, "file_name": "a.png", "height": 41, "width": 60}], annotations=[])
    with refused("a.png", "60x40", "60x41", "image 7"):
        read(root)[0]


def test_an_unreadable_image_is_replaced_in_training(one_is_broken: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = read(one_is_broken, on_error="skip", train=True)
    assert [sample(dataset, i).image_id for i in (0, 1, 2, 1)] == [7, 5, 5, 5]
    (line,) = caplog.messages  # once, although it was met twice
    assert "b.png" in line
    assert line.endswith("; skipped")


def test_the_last_image_is_replaced_by_the_first(make_split: MakeSplit) -> None:
    root = make_split()
    (root / "train2017/sub/c.png").write_bytes(b"")
    assert sample(read(root, on_error="skip", train=True), 2).image_id == 7


def test_an_unreadable_image_is_left_out_in_evaluation(one_is_broken: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = read(one_is_broken, on_error="skip")
    assert dataset[1] is None
    assert caplog.record_tuples[0][1] == logging.WARNING


def test_nothing_readable_at_all_raises(make_split: MakeSplit) -> None:
    root = make_split()
    for file in (root / "train2017").rglob("*.png"):
        file.write_bytes(b"")
    with refused("none of the 3 images can be read"):
        read(root, on_error="skip", train=True)[0]


# Segmentations


def test_polygons_fill_their_inside() -> None:
    mask = decode_segmentation([[2, 1, 6, 1, 6, 4, 2, 4], [0, 6, 3, 6, 3, 8, 0, 8]], 8, 10)
    expected = np.zeros((8, 10), dtype=np.bool_)
    expected[1:4, 2:6] = True
    expected[6:8, 0:3] = True
    np.testing.assert_array_equal(mask, expected)
    assert not decode_segmentation([], 8, 10).any()


@pytest.mark.parametrize("seed", range(5))
def test_run_lengths_of_every_kind_decode_to_the_same(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.repeat(rng.random((30, 7)) < 0.4, 30, axis=1)[:, :200]  # long runs and short ones
    if seed == 0:
        mask[:, 0] = True  # begins with a run of none
    compressed = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    edges = np.flatnonzero(np.diff(mask.T.ravel(), prepend=False, append=not mask[-1, -1]))
    counts = np.diff(edges, prepend=0).tolist()
    for form in (compressed["counts"], compressed["counts"].decode(), counts):
        np.testing.assert_array_equal(decode_segmentation({"size": [30, 200], "counts": form}, 30, 200), mask)


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        "polygon",
        [1, 2, 3, 4, 5, 6],
        [[1, 1, 5, 5]],  # pycocotools takes this for a box
        [[1, 1, 5, 5, 3]],
        [[1, 1, 5, 5, 3, math.nan]],
        [[1, 1, 5, 5, 3, 1e9]],
        [[[1, 1], [5, 5], [3, 3]]],
        [[1, 1, 5, 5, 3, "x"]],
        {"counts": [64]},
        {"size": [8, 8]},
        {"size": [4, 16], "counts": [64]},
        {"size": [8, 8], "counts": [63]},
        {"size": [8, 8], "counts": [60, 5]},
        {"size": [8, 8], "counts": [70, -6]},
        {"size": [8, 8], "counts": [2**63, 64]},
        {"size": [8, 8], "counts": ["64"] * 2},
        {"size": [8, 8], "counts": "zz~~"},
        {"size": [8, 8], "counts": "o"},
        {"size": [8, 8], "counts": b""},
    ],
)
def test_malformed_segmentations_are_refused(segmentation: Any) -> None:
    with refused("segmentation", "correct"):
        decode_segmentation(segmentation, 8, 8)


def test_masks_name_their_annotation(make_split: MakeSplit) -> None:
    polygon = [[1, 1, 5, 1, 5, 5]]
    root = make_split(
        annotations=[
            one_box([1, 1, 4, 4], segmentation=polygon),
            one_box([2, 2, 4, 4], id=33, image_id=3, segmentation=[[1, 2]]),
        ]
    )
    dataset = read(root, masks=True)
    assert dataset.instance_masks(0).shape == (1, 40, 60)
    np.testing.assert_array_equal(dataset.instance_masks(0)[0], decode_segmentation(polygon, 40, 60))
    assert dataset.instance_masks(2).shape == (0, 30, 80)
    with refused("instances_train2017.json", "annotation 33", "image 3", "polygon"):
        dataset.instance_masks(1)
    with refused("masks=True"):
        read(root).instance_masks(0)
