"""What a device makes of a picture is what the trainer's evaluation makes of it, to the pixel."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from mbdet.data.crops import EvalTransform
from mbdet.data.segmentation_transforms import SegmentationEvalTransform
from mbdet.data.transforms import eval_transform, transform_boxes
from mbdet.runtime.image import Resizing, read_image
from mbdet.runtime.predictor import ClassifierPredictor, DetectorPredictor, SegmenterPredictor
from mbdet.runtime.types import Classification, Detections, Segmentation

INPUT = (65, 97)
SIZES = [(1, 1), (1, 333), (37, 5), (64, 97), (66, 96), (65, 97), (333, 501), (427, 640), (501, 75)]  # height, width
NOTHING = np.zeros(0, np.float32)


class SeenByDetector(DetectorPredictor):
    """Keeps what the network would see."""

    input_size = INPUT

    def predict(self, images: np.ndarray, sizes: np.ndarray) -> list[Detections]:
        self.seen, self.sizes = images, sizes
        return [Detections(np.zeros((0, 4), np.float32), NOTHING, NOTHING.astype(np.int64))]


class SeenByClassifier(ClassifierPredictor):
    """Likewise."""

    input_size, eval_crop = INPUT, 0.875

    def predict(self, images: np.ndarray, sizes: np.ndarray) -> list[Classification]:
        self.seen, self.sizes = images, sizes
        return [Classification(NOTHING, NOTHING.astype(np.int64))]


class SeenBySegmenter(SegmenterPredictor):
    """Likewise."""

    input_size = INPUT

    def __init__(self, resizing: Resizing) -> None:
        self.resizing = resizing

    def predict(self, images: np.ndarray, sizes: np.ndarray) -> list[Segmentation]:
        self.seen, self.sizes = images, sizes
        return [Segmentation(np.zeros(sizes[0], np.uint8), None)]


@pytest.fixture(params=SIZES, ids=str)
def picture(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (*request.param, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=95)
    return tmp_path / "a.jpg"


def check(predictor: Any, picture: Path, expected: np.ndarray) -> None:
    predictor(picture)
    assert predictor.seen.dtype == np.uint8
    np.testing.assert_array_equal(predictor.seen, expected.transpose(2, 0, 1)[None])
    width, height = Image.open(picture).size
    assert predictor.sizes.tolist() == [[height, width]]


def test_detectors(picture: Path) -> None:
    boxes, labels = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    expected, _, _ = transform_boxes(eval_transform(INPUT), read_image(picture), boxes, labels)
    check(SeenByDetector(), picture, expected)


def test_classifiers(picture: Path) -> None:
    check(SeenByClassifier(), picture, EvalTransform(INPUT, 0.875)(read_image(picture)))


@pytest.mark.parametrize("resizing", get_args(Resizing))
def test_segmenters(picture: Path, resizing: Resizing) -> None:
    image = read_image(picture)
    expected, _ = SegmentationEvalTransform(INPUT, resizing)(image, np.zeros(image.shape[:2], np.uint8))
    check(SeenBySegmenter(resizing), picture, expected)
