import pickle
from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning import seed_everything
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from mbdet.data.coco import CocoDetection
from mbdet.data.transforms import (
    Augmentation,
    Resize,
    SSDRandomCrop,
    Transform,
    ZoomOut,
    eval_transform,
    train_transform,
    transform_boxes,
)
from mbdet.errors import InputError
from mbdet.runtime.image import resize

OFF = Augmentation(photometric=0, zoom_out=0, crop=0, flip=0)
IMAGE = np.random.default_rng(0).integers(0, 255, (100, 200, 3), dtype=np.uint8)
MASK = np.random.default_rng(1).integers(0, 21, (100, 200), dtype=np.uint8)
BOXES = np.array([[10, 20, 60, 80], [150, 0, 200, 100]], dtype=np.float32)
LABELS = np.array([3, 7])


class FixedCrop(SSDRandomCrop):
    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        return {"crop_coords": (40, 10, 140, 90)}


class FixedZoomOut(ZoomOut):
    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, int]:
        return {"pad_top": 30, "pad_bottom": 170, "pad_left": 30, "pad_right": 370}


def pipeline(*steps: Any) -> Transform:
    boxes = A.BboxParams("pascal_voc", label_fields=["labels"], check_each_transform=False)
    return A.Compose(list(steps), bbox_params=boxes)


def run(transform: Transform, boxes: Any = BOXES, labels: Any = LABELS) -> dict[str, Any]:
    image, boxes, labels = transform_boxes(transform, IMAGE, np.asarray(boxes, np.float32), np.asarray(labels))
    return {"image": image, "boxes": boxes.tolist(), "labels": labels.tolist()}


def near(boxes: list[list[float]]) -> Any:
    return [pytest.approx(box, abs=1e-3) for box in boxes]


# Boxes computed by hand


def test_resize_scales_boxes() -> None:
    result = run(eval_transform((50, 400)))
    assert result["image"].shape == (50, 400, 3)
    assert result["boxes"] == near([[20, 10, 120, 40], [300, 0, 400, 50]])
    assert result["labels"] == [3, 7]


def test_flip_mirrors_boxes() -> None:
    result = run(train_transform((100, 200), Augmentation(photometric=0, zoom_out=0, crop=0, flip=1)))
    assert result["boxes"] == near([[140, 20, 190, 80], [0, 0, 50, 100]])
    np.testing.assert_array_equal(result["image"], IMAGE[:, ::-1])


def test_crop_keeps_and_clips_the_boxes_whose_centre_is_inside() -> None:
    boxes = [[10, 20, 80, 80], [10, 20, 60, 80], [120, 60, 158, 100], [130, 0, 170, 95], [60, 30, 70, 40]]
    result = run(pipeline(FixedCrop(p=1)), boxes, range(5))
    # Centres at x 45, 35 (left of 40), 139, 150 (right of 140), 65.
    assert result["boxes"] == near([[0, 10, 40, 70], [80, 50, 100, 80], [20, 20, 30, 30]])
    assert result["labels"] == [0, 2, 4]
    np.testing.assert_array_equal(result["image"], IMAGE[10:90, 40:140])


def test_a_cropped_box_does_not_reach_into_a_canvas_around_the_crop() -> None:
    result = run(pipeline(FixedCrop(p=1), FixedZoomOut(p=1)), [[10, 20, 80, 80]], [0])
    assert result["boxes"] == near([[30, 40, 70, 100]])


def test_zoom_out_shifts_boxes_and_fills_with_the_mean_colour() -> None:
    result = run(pipeline(FixedZoomOut(p=1)))
    assert result["boxes"] == near([[40, 50, 90, 110], [180, 30, 230, 130]])
    image = result["image"]
    assert image.shape == (300, 600, 3)
    np.testing.assert_array_equal(image[30:130, 30:230], IMAGE)
    image[30:130, 30:230] = (124, 116, 104)
    assert (image == (124, 116, 104)).all()


def test_the_chain() -> None:
    result = run(pipeline(FixedZoomOut(p=1), FixedCrop(p=1), A.HorizontalFlip(p=1), Resize(40, 200)))
    # 40, 50, 90, 110 -> crop 0, 40, 50, 80 of 100x80 -> flip 50, 40, 100, 80 -> twice as wide, half as high.
    # The other box has its centre at x 205, outside the crop.
    assert result["boxes"] == near([[100, 20, 200, 40]])
    assert result["labels"] == [3]
    crop = np.full((80, 100, 3), (124, 116, 104), np.uint8)
    crop[20:] = IMAGE[:60, 10:110]
    np.testing.assert_array_equal(result["image"], resize(np.ascontiguousarray(crop[:, ::-1]), (40, 200)))


@pytest.mark.parametrize("transform", [eval_transform((37, 41)), train_transform((37, 41), OFF)])
def test_without_augmentation_the_pixels_are_the_devices(transform: Transform) -> None:
    np.testing.assert_array_equal(run(transform)["image"], resize(IMAGE, (37, 41)))


def test_boxes_thinner_than_a_pixel_of_the_input_are_dropped_in_training_only() -> None:
    boxes = [[10, 10, 11.9, 90], [10, 10, 12.1, 90], [10, 10, 90, 10.9], [10, 10, 90, 11.1]]
    assert run(train_transform((100, 100), OFF), boxes, range(4))["labels"] == [1, 3]
    assert run(eval_transform((100, 100)), boxes, range(4))["labels"] == [0, 1, 2, 3]
    # In the image they are thinner than a pixel, in the network input they are not.
    assert run(train_transform((400, 400), OFF), [[10, 10, 10.6, 90]], [1])["boxes"] == near([[20, 40, 21.2, 360]])


@pytest.mark.parametrize("box", [[199.99, 0, 200, 100], [120, 50, 120.01, 50.01], [0, 0, 200, 100]])
def test_no_box_that_the_reader_lets_pass_is_too_small_for_the_pipeline(box: list[float]) -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        run(train_transform((32, 32)), [box], [1])
        run(eval_transform((32, 32)), [box], [1])


# Masks


def test_masks_go_the_way_of_their_image() -> None:
    steps = [FixedZoomOut(p=1), FixedCrop(p=1), A.HorizontalFlip(p=1)]
    result = pipeline(*steps)(image=IMAGE, mask=MASK, bboxes=BOXES, labels=LABELS)
    assert (result["mask"][:20] == 255).all()  # ignored, not a class
    np.testing.assert_array_equal(result["mask"][20:], MASK[:60, 10:110][:, ::-1])


def test_masks_are_resized_to_the_nearest_centre_and_get_no_new_values() -> None:
    mask = eval_transform((50, 100))(image=IMAGE, mask=MASK, bboxes=BOXES, labels=LABELS)["mask"]
    np.testing.assert_array_equal(mask, MASK[1::2, 1::2])
    mask = eval_transform((300, 600))(image=IMAGE, mask=MASK, bboxes=BOXES, labels=LABELS)["mask"]
    np.testing.assert_array_equal(mask, MASK.repeat(3, 0).repeat(3, 1))


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    sides=st.tuples(st.integers(40, 160), st.integers(40, 160)),
    corners=st.tuples(*[st.floats(0, 1)] * 4),
    strengths=st.tuples(*[st.sampled_from([0.0, 0.5, 1.0])] * 3),
)
def test_an_object_stays_under_its_box(
    seed: int,
    sides: tuple[int, int],
    corners: tuple[float, float, float, float],
    strengths: tuple[float, float, float],
) -> None:
    height, width = sides
    x1, x2 = sorted(round(c * (width - 12)) for c in corners[:2])
    y1, y2 = sorted(round(c * (height - 12)) for c in corners[2:])
    x2, y2 = x2 + 12, y2 + 12
    image = np.zeros((height, width, 3), np.uint8)
    image[y1:y2, x1:x2] = 255
    mask = image[..., 0] // 255
    zoom_out, crop, flip = strengths
    torch.manual_seed(seed)
    transform = train_transform((96, 128), Augmentation(0, zoom_out, 4.0, crop, flip))
    # Black canvas, so that the rectangle is the only thing that is bright.
    transform.transforms[1].fill = (0, 0, 0)
    result = transform(image=image, mask=mask, bboxes=np.array([[x1, y1, x2, y2]], float), labels=[5])
    if zoom_out == 0:
        assert len(result["bboxes"]) == 1
    for box in result["bboxes"]:
        assert 0 <= box[0] < box[2] <= 128
        assert 0 <= box[1] < box[3] <= 96
        bright = result["image"][..., 0] > 127
        assert extent(bright) == pytest.approx(list(box), abs=1)
        assert extent(result["mask"] == 1) == pytest.approx(list(box), abs=1)


def extent(where: NDArray[np.bool_]) -> list[int]:
    rows, columns = np.flatnonzero(where.any(1)), np.flatnonzero(where.any(0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


# The random crop and zoom-out


def draw(transform: A.BasicTransform, times: int, boxes: Any = BOXES) -> list[dict[str, Any]]:
    torch.manual_seed(0)
    steps = pipeline(transform)
    drawn = []
    for _ in range(times):
        result = run(steps, boxes, range(len(boxes)))
        drawn.append(transform.params | {"kept": result["labels"], "shape": result["image"].shape[:2]})
    return drawn


def test_crops_have_the_papers_sizes_and_always_keep_a_box() -> None:
    drawn = draw(SSDRandomCrop(p=1), 400)
    sizes = np.array([d["shape"] for d in drawn])
    area, aspect = sizes.prod(1) / 20000, sizes[:, 1] / sizes[:, 0] / 2  # aspect relative to the image's
    assert (area > 0.095).all()
    assert (aspect > 0.49).all()
    assert (aspect < 2.05).all()
    assert area.min() < 0.2
    assert aspect.min() < 0.65
    assert aspect.max() > 1.55
    assert all(d["kept"] for d in drawn)
    assert {tuple(d["kept"]) for d in drawn} == {(0,), (1,), (0, 1)}


def test_one_crop_in_seven_is_the_whole_image() -> None:
    everything = [[0, 0, 200, 100]]  # which every option finds a crop for
    whole = np.mean([d["shape"] == (100, 200) for d in draw(SSDRandomCrop(p=1), 500, everything)])
    assert whole == pytest.approx(1 / 7, abs=0.05)


@pytest.mark.parametrize(
    ("min_iou", "box"),
    [
        (0.1, [80, 40, 120, 60]),
        (0.3, [60, 30, 140, 70]),
        (0.5, [40, 20, 160, 80]),
        (0.7, [40, 20, 160, 80]),
        (0.9, [0, 0, 200, 100]),
    ],
)
def test_crops_have_the_minimum_iou_with_a_box(
    min_iou: float, box: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SSDRandomCrop, "_OPTIONS", (min_iou,))
    left, top, right, bottom = box
    ious = []
    for drawn in draw(SSDRandomCrop(p=1), 200, [box]):
        x1, y1, x2, y2 = drawn["crop_coords"]
        overlap = (min(x2, right) - max(x1, left)) * (min(y2, bottom) - max(y1, top))
        if drawn["shape"] != (100, 200):
            ious.append(overlap / ((x2 - x1) * (y2 - y1) + (right - left) * (bottom - top) - overlap))
    assert len(ious) > 50
    assert min_iou <= min(ious) < min_iou + 0.05


def test_a_crop_that_is_not_found_leaves_the_image_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SSDRandomCrop, "_OPTIONS", (0.9,))
    assert {d["shape"] for d in draw(SSDRandomCrop(p=1), 20, [[0, 0, 4, 4]])} == {(100, 200)}


def test_an_image_without_objects_is_cropped_too() -> None:
    assert len({d["shape"] for d in draw(SSDRandomCrop(p=1), 20, np.zeros((0, 4)))}) > 10


def test_crops_and_zoom_outs_of_single_pixels() -> None:
    for seed in range(30):
        torch.manual_seed(seed)
        image = np.zeros((1, 1, 3), np.uint8)
        boxes = np.array([[0, 0, 1, 1]], np.float32)
        assert transform_boxes(train_transform((8, 8)), image, boxes, np.array([0]))[0].shape == (8, 8, 3)


def test_zoom_out_keeps_the_shape_and_fills_its_range() -> None:
    shapes = np.array([d["shape"] for d in draw(ZoomOut(3.0, p=1), 200)])
    np.testing.assert_allclose(shapes[:, 1] / shapes[:, 0], 2, atol=0.02)
    assert 100 <= shapes[:, 0].min() < 115
    assert 285 < shapes[:, 0].max() <= 300


def test_empty_boxes_work_everywhere() -> None:
    steps = train_transform((64, 64))
    for seed in range(20):  # the first sample of a pipeline has no labels to learn their type from
        torch.manual_seed(seed)
        for boxes in ([], [[10, 20, 60, 80]], []):
            labels = np.arange(len(boxes))
            _, new, new_labels = transform_boxes(steps, IMAGE, np.array(boxes).reshape(-1, 4), labels)
            assert new.shape == (len(new_labels), 4)
            assert (new.dtype, new_labels.dtype) == (np.float32, np.int64)


@pytest.mark.parametrize(
    "strength", [{"flip": 1.5}, {"crop": -0.1}, {"zoom_out": float("nan")}, {"zoom_out_ratio": 0.5}]
)
def test_impossible_strengths_are_refused(strength: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"augmentation.{next(iter(strength))} is .*give"):
        Augmentation(**strength)


# Randomness


def test_flip_and_zoom_out_are_independent() -> None:
    torch.manual_seed(0)
    steps = train_transform((16, 16), Augmentation(photometric=0.5, zoom_out=0.5, crop=0, flip=0.5))
    outcomes = []
    for _ in range(200):
        run(steps)
        outcomes.append(tuple(bool(step.params) for step in (steps[0], steps[1], steps[3])))
    counts = [outcomes.count(outcome) for outcome in set(outcomes)]
    assert len(counts) == 8
    assert min(counts) > 8


def test_the_same_seed_augments_alike_after_any_history() -> None:
    first, second = train_transform((32, 32)), pickle.loads(pickle.dumps(train_transform((32, 32))))
    run(second)
    results = []
    for steps in (first, second):
        torch.manual_seed(5)
        results.append([run(steps) for _ in range(5)])
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one["image"], other["image"])
        assert one["boxes"] == other["boxes"]


class SameImage(Dataset[torch.Tensor]):
    """One image over and over, so that samples differ by their augmentation only."""

    def __init__(self) -> None:
        self.transform = train_transform((24, 24), Augmentation(photometric=1))

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(transform_boxes(self.transform, IMAGE, BOXES, LABELS)[0])


def test_workers_augment_differently_and_a_seed_repeats_them() -> None:
    def epochs() -> torch.Tensor:
        seed_everything(1, workers=True, verbose=False)
        loader = DataLoader(SameImage(), batch_size=4, num_workers=2, persistent_workers=True)
        return torch.stack([torch.cat(list(loader)) for _ in range(2)]).flatten(0, 1)

    first = epochs()
    assert torch.equal(first, epochs())
    assert len(torch.unique(first, dim=0)) == 16  # of 2 epochs, 2 workers each


def test_real_images_keep_their_boxes_in_bounds(real_data: Path) -> None:
    coco = real_data / "coco"
    dataset = CocoDetection(
        coco / "annotations/instances_train2017.json", coco / "train2017", train_transform((96, 96))
    )
    torch.manual_seed(0)
    objects = 0
    for index in range(0, 320, 8):
        sample = dataset[index]
        assert sample is not None
        assert sample.image.shape == (96, 96, 3)
        assert ((sample.boxes >= 0) & (sample.boxes <= 96)).all()
        assert (sample.boxes[:, 2:] - sample.boxes[:, :2] >= 1 - 1e-4).all()
        objects += len(sample.boxes)
    assert objects > 40
