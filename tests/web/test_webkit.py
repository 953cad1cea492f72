"""The page in WebKit, the engine of Safari, where it is installed."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from chromium import DONE
from conftest import Serve
from PIL import Image, ImageCms
from test_page import assert_same_boxes, read_map
from webkit import WebKit, missing, opened

import mbdet


@pytest.fixture(scope="module")
def window() -> Iterator[WebKit]:
    if names := missing():
        pytest.skip(f"{names[0]} is not installed")  # it is a part of Debian, and of no registry of packages
    with opened() as window:
        yield window


def exchanged_profile() -> bytes:
    """Return a profile whose red is sRGB's blue: whoever converts by it sees another picture."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"none").replace(b"bXYZ", b"rXYZ").replace(b"none", b"bXYZ")


def test_boxes_and_map_are_those_of_python(
    window: WebKit, serve: Serve, models: Callable[[str], Path], scene: Path, tmp_path: Path
) -> None:
    profile, picture = exchanged_profile(), tmp_path / "profile.png"
    stored = Image.open(scene)
    seen = ImageCms.profileToProfile(stored, io.BytesIO(profile), ImageCms.createProfile("sRGB"))
    assert np.abs(np.array(seen).astype(int) - np.array(stored)).mean() > 10
    stored.save(picture, icc_profile=profile)

    model = models("multitask")
    with serve(model) as url:
        window.open(url)
        window.wait("Ready")
        window.choose(picture)
        window.wait(DONE)
        boxes, drawn = window.look()["boxes"], window.pixels("#map")
    predictor = mbdet.load(model)
    expected = predictor(picture, 0.5)
    assert len(expected.detections.boxes) > 3
    assert_same_boxes(boxes, expected.detections)
    assert len(np.unique(expected.segmentation.classes)) > 1
    assert (read_map(drawn, predictor.segment_names) == expected.segmentation.classes).mean() >= 0.999
