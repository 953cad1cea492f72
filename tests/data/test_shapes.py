import json
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO

from mbdet.data import shapes
from mbdet.data.shapes import CLASS_NAMES, draw_scene, make_shapes
from mbdet.data.shapes_files import CATEGORY_IDS, VOID, mask_to_polygon, voc_palette
from mbdet.errors import InputError

SPLITS = ("train", "val")


def make_small(root: Path, seed: int = 0, num_train: int = 12) -> Path:
    return make_shapes(root, seed=seed, num_train=num_train, num_val=8, height=120, width=160)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_small(tmp_path_factory.mktemp("data") / "shapes")


@pytest.fixture(scope="module")
def cocos(root: Path) -> dict[str, COCO]:
    return {split: COCO(root / "annotations" / f"instances_{split}.json") for split in SPLITS}


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def annotations(cocos: dict[str, COCO]) -> list[tuple[dict, NDArray[np.uint8]]]:
    return [(ann, coco.annToMask(ann)) for coco in cocos.values() for ann in coco.anns.values()]


def voc_objects(root: Path, image_id: int) -> list[ElementTree.Element]:
    return ElementTree.parse(root / "VOC" / "Annotations" / f"{image_id:06d}.xml").findall("object")


def test_the_same_seed_gives_the_same_files(root: Path, tmp_path: Path) -> None:
    assert contents(make_small(tmp_path / "again")) == contents(root)


def test_another_seed_gives_other_images_and_annotations(root: Path, tmp_path: Path) -> None:
    ours, theirs = contents(root), contents(make_small(tmp_path / "other", seed=1))
    assert ours.keys() == theirs.keys()
    assert all(ours[name] != theirs[name] for name in ours if name.endswith((".jpg", ".json")))


def test_an_image_does_not_depend_on_the_others(root: Path, tmp_path: Path) -> None:
    fewer = make_small(tmp_path / "fewer", num_train=3)
    for image_id in (1, 2, 3):
        name = f"train/{image_id:06d}.jpg"
        assert (fewer / name).read_bytes() == (root / name).read_bytes()
    first_of_val = (fewer / "val" / "000004.jpg").read_bytes()
    assert first_of_val == (root / "val" / "000013.jpg").read_bytes()
    assert first_of_val != (root / "train" / "000001.jpg").read_bytes()


def test_coco_layout_is_complete(root: Path, cocos: dict[str, COCO]) -> None:
    for split, count in zip(SPLITS, (12, 8), strict=True):
        coco = cocos[split]
        assert {category["id"]: category["name"] for category in coco.cats.values()} == dict(
            zip(CATEGORY_IDS, CLASS_NAMES, strict=True)
        )
        assert {"info", "licenses"} <= coco.dataset.keys()
        assert len(coco.imgs) == count
        assert {path.name for path in (root / split).iterdir()} == {i["file_name"] for i in coco.imgs.values()}
        for image in coco.imgs.values():
            with Image.open(root / split / image["file_name"]) as opened:
                assert (opened.mode, opened.size) == ("RGB", (image["width"], image["height"]))


def test_ids_are_unique_over_both_splits(cocos: dict[str, COCO]) -> None:
    for records in ("images", "annotations"):
        ids = [record["id"] for coco in cocos.values() for record in coco.dataset[records]]
        assert len(ids) == len(set(ids))


def test_boxes_and_areas_are_those_of_the_masks(cocos: dict[str, COCO]) -> None:
    for ann, mask in annotations(cocos):
        assert ann["bbox"] == list(cv2.boundingRect(mask))
        assert ann["area"] == mask.sum() >= 30


def test_masks_are_the_visible_parts(cocos: dict[str, COCO]) -> None:
    for split, coco in cocos.items():
        for index, image_id in enumerate(sorted(coco.imgs)):
            scene = draw_scene(0, SPLITS.index(split), index, 120, 160)
            anns = coco.imgToAnns[image_id]
            assert len(anns) == len(scene.instances)
            for number, ann in enumerate(anns, start=1):
                np.testing.assert_array_equal(coco.annToMask(ann), scene.owner == number)


def test_polygons_and_rle_both_occur(cocos: dict[str, COCO]) -> None:
    objects = [(ann, mask) for ann, mask in annotations(cocos) if not ann["iscrowd"]]
    for ann, mask in objects:
        contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        assert isinstance(ann["segmentation"], list) == (len(contours) == 1)
    assert {type(ann["segmentation"]) for ann, _ in objects} == {list, dict}


@pytest.mark.parametrize("seed", range(20))
def test_a_polygon_rasterises_to_the_very_mask(seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.random((40, 50)), (9, 9), 0)
    _, regions = cv2.connectedComponents((noise > 0.53).astype(np.uint8))
    for number in range(1, regions.max() + 1):
        mask = (regions == number).astype(np.uint8)
        polygon = mask_to_polygon(mask)
        if polygon is not None:
            rles = mask_utils.frPyObjects([polygon], *mask.shape)
            np.testing.assert_array_equal(mask_utils.decode(rles)[..., 0], mask)


def test_a_mask_with_a_hole_or_two_parts_is_no_polygon() -> None:
    ring = np.ones((9, 9), np.uint8)
    ring[4, 4] = 0
    halves = np.ones((9, 9), np.uint8)
    halves[:, 4] = 0
    assert mask_to_polygon(ring) is None
    assert mask_to_polygon(halves) is None
    assert mask_to_polygon(halves[:, :4]) is not None


def test_the_hard_cases_occur(root: Path, cocos: dict[str, COCO]) -> None:
    truncated = set()
    for coco in cocos.values():
        assert any(not coco.imgToAnns[image_id] for image_id in coco.imgs), "no empty image"
        crowds = [ann for ann in coco.anns.values() if ann["iscrowd"]]
        assert crowds
        assert all(isinstance(ann["segmentation"]["counts"], str) for ann in crowds)
        for image_id in coco.imgs:
            truncated |= {node.findtext("truncated") for node in voc_objects(root, image_id)}
    assert truncated == {"0", "1"}


def test_truncated_objects_touch_the_border() -> None:
    tops = []
    for index in range(60):
        scene = draw_scene(0, 0, index, 120, 160)
        if scene.instances:  # nothing hides the last one, so only the border can have cut it
            x, y, w, h = cv2.boundingRect((scene.owner == len(scene.instances)).astype(np.uint8))
            tops.append((scene.instances[-1].truncated, x == 0 or y == 0 or x + w == 160 or y + h == 120))
    assert (True, True) in tops
    assert (False, False) in tops
    assert (True, False) not in tops


def test_objects_stand_out_and_no_class_is_rare() -> None:
    labels, contrasts = [], []
    for index in range(60):
        scene = draw_scene(3, 0, index, 120, 160)
        lab = cv2.cvtColor(scene.image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        for number, instance in enumerate(scene.instances, start=1):
            mask = (scene.owner == number).astype(np.uint8)
            around = (cv2.dilate(mask, np.ones((9, 9), np.uint8)) > 0) & (mask == 0)
            labels.append(instance.label)
            contrasts.append(np.linalg.norm(lab[mask > 0].mean(axis=0) - lab[around].mean(axis=0)))
    assert np.quantile(contrasts, 0.02) > 25
    counts = np.bincount(labels, minlength=len(CLASS_NAMES))
    assert counts.min() > 0.5 * counts.mean()


def test_voc_boxes_are_the_coco_boxes(root: Path, cocos: dict[str, COCO]) -> None:
    names = dict(zip(CATEGORY_IDS, CLASS_NAMES, strict=True))
    for coco in cocos.values():
        for image_id in coco.imgs:
            found = []
            for node in voc_objects(root, image_id):
                xmin, ymin, xmax, ymax = (int(node.findtext(f"bndbox/{k}")) for k in ("xmin", "ymin", "xmax", "ymax"))
                box = [xmin - 1, ymin - 1, xmax - xmin + 1, ymax - ymin + 1]
                found.append((node.findtext("name"), int(node.findtext("difficult")), box))
            anns = coco.imgToAnns[image_id]
            assert found == [(names[ann["category_id"]], ann["iscrowd"], ann["bbox"]) for ann in anns]


def test_voc_lists_name_the_coco_images(root: Path, cocos: dict[str, COCO]) -> None:
    for split, coco in cocos.items():
        stems = [f"{image_id:06d}" for image_id in coco.imgs]
        for task in ("Main", "Segmentation"):
            assert (root / "VOC" / "ImageSets" / task / f"{split}.txt").read_text().split() == stems
        for stem in stems:
            jpeg = (root / "VOC" / "JPEGImages" / f"{stem}.jpg").read_bytes()
            assert jpeg == (root / split / f"{stem}.jpg").read_bytes()


def test_voc_classes_are_those_of_the_masks(root: Path, cocos: dict[str, COCO]) -> None:
    for coco in cocos.values():
        for image_id in coco.imgs:
            with Image.open(root / "VOC" / "SegmentationClass" / f"{image_id:06d}.png") as png:
                assert png.mode == "P"
                assert png.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]
                found = np.array(png)
            expected = np.zeros_like(found)
            near_outline = np.zeros(found.shape, bool)
            for ann in coco.imgToAnns[image_id]:
                mask = coco.annToMask(ann)
                expected[mask > 0] = VOID if ann["iscrowd"] else CATEGORY_IDS.index(ann["category_id"]) + 1
                near_outline |= (cv2.dilate(mask, np.ones((3, 3))) != cv2.erode(mask, np.ones((3, 3)))) > 0
            valid = found != VOID
            np.testing.assert_array_equal(found[valid], expected[valid])
            np.testing.assert_array_equal(~valid, near_outline | (expected == VOID))


def test_voc_palette() -> None:
    palette = voc_palette()
    assert palette[[1, 2, 3, 4, 8, 15, 255]].tolist() == [
        [128, 0, 0],
        [0, 128, 0],
        [128, 128, 0],
        [0, 0, 128],
        [64, 0, 0],
        [192, 128, 128],
        [224, 224, 192],
    ]


def test_a_second_call_leaves_the_set_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_small(tmp_path / "shapes")
    times = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    capsys.readouterr()
    assert make_small(root) == root
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == times
    assert capsys.readouterr() == ("", "")


def test_another_seed_replaces_the_set(root: Path, tmp_path: Path) -> None:
    again = make_small(tmp_path / "shapes", seed=5)
    make_small(again, seed=0)
    assert contents(again) == contents(root)
    assert list(tmp_path.iterdir()) == [again]


def test_a_set_with_missing_files_is_made_anew(root: Path, tmp_path: Path) -> None:
    again = make_small(tmp_path / "shapes")
    (again / "train" / "000003.jpg").unlink()
    make_small(again)
    assert contents(again) == contents(root)


@pytest.mark.parametrize("name", ["notes.txt", "shapes.json", "train"])
def test_a_foreign_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"mine": 1}')
    with pytest.raises(InputError, match=rf"{tmp_path.name}.*{name}.*another folder"):
        make_small(tmp_path)
    assert contents(tmp_path) == {name: b'{"mine": 1}'}


def test_a_file_put_into_the_set_is_not_deleted(tmp_path: Path) -> None:
    root = make_small(tmp_path / "shapes")
    (root / "notes.txt").write_text("mine")
    make_small(root)
    with pytest.raises(InputError, match=r"notes\.txt"):
        make_small(root, seed=1)
    assert (root / "notes.txt").read_text() == "mine"


def test_an_empty_folder_and_a_link_will_do(root: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "shapes").symlink_to(tmp_path / "disk")
    make_small(tmp_path / "shapes")
    assert (tmp_path / "shapes").is_symlink()
    assert contents(tmp_path / "disk") == contents(root)


def test_an_interrupted_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(seed: int, split: int, index: int, height: int, width: int) -> shapes.Scene:
        if index == 3:
            raise KeyboardInterrupt
        return draw_scene(seed, split, index, height, width)

    monkeypatch.setattr(shapes, "draw_scene", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_small(tmp_path / "shapes")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_does_no_harm(root: Path, tmp_path: Path) -> None:
    left = tmp_path / ".shapes-killed" / "new" / "train"
    left.mkdir(parents=True)
    assert contents(make_small(tmp_path / "shapes")) == contents(root)


@pytest.mark.parametrize("old_seed", [None, 7])
def test_the_first_of_two_processes_wins(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old_seed: int | None
) -> None:
    target = tmp_path / "shapes"
    if old_seed is not None:
        make_small(target, seed=old_seed)
    draw_set = shapes._draw_set
    first: dict[Path, int] = {}

    def overtaken(draft: Path, manifest: shapes.Manifest) -> None:
        draw_set(draft, manifest)
        monkeypatch.setattr(shapes, "_draw_set", draw_set)
        make_small(target)
        first.update({path: path.stat().st_mtime_ns for path in target.rglob("*")})

    monkeypatch.setattr(shapes, "_draw_set", overtaken)
    make_small(target)
    assert {path: path.stat().st_mtime_ns for path in target.rglob("*")} == first
    assert contents(target) == contents(root)
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    "numbers", [{"seed": -1}, {"num_train": 0}, {"num_val": 0}, {"height": 63}, {"width": 0}], ids=str
)
def test_numbers_out_of_range_are_refused(tmp_path: Path, numbers: dict[str, int]) -> None:
    with pytest.raises(InputError, match="shapes: "):
        make_shapes(tmp_path / "shapes", **numbers)
    assert list(tmp_path.iterdir()) == []


def test_the_manifest_says_how_the_set_was_made(root: Path) -> None:
    manifest = json.loads((root / "shapes.json").read_text())
    assert manifest.pop("shapes_version") >= 1
    assert manifest == {"seed": 0, "num_train": 12, "num_val": 8, "height": 120, "width": 160}
