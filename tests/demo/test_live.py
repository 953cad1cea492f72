import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mbdet
from mbdet.demo.canvas import Canvas
from mbdet.demo.find import find_source
from mbdet.demo.live import watch
from mbdet.demo.sources import Frame, Source
from mbdet.demo.views import View

KINDS = ("detection", "segmentation", "classification", "multitask")


class Wall(View):
    """A window that is closed after a few pictures."""

    verb = "show"

    def __init__(self, pictures: int = 1000, interrupt: bool = False) -> None:
        self.left, self.interrupt, self.held = pictures, interrupt, 0
        self.shown: list[tuple[np.ndarray, float]] = []

    def show(self, image: np.ndarray, seconds: float) -> None:
        self.shown.append((image, seconds))
        self.left -= 1
        if not self.left:
            self.is_open = False
            if self.interrupt:
                raise KeyboardInterrupt

    def hold(self) -> None:
        self.held += 1


class Clock:
    """The time, which passes only where somebody takes it."""

    now = 100.0


class Scene(Source):
    """Five pictures, each as it is at that time or, where it is not live, one every 50 ms."""

    name, rate = "scene", 20.0

    def __init__(self, clock: Clock, live: bool) -> None:
        self.clock, self.live, self.taken = clock, live, list[float]()

    def read(self) -> Frame | None:
        self.taken.append(self.clock.now)
        count = len(self.taken) - 1
        seconds = self.clock.now - self.taken[0] if self.live else count / self.rate
        return Frame(np.zeros((40, 60, 3), np.uint8), seconds) if count < 5 else None

    def close(self) -> None:
        pass


class PacedWall(Wall):
    """A window that waits as `View.wait` says, and remembers when it showed what."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock, self.times = clock, list[float]()

    def show(self, image: np.ndarray, seconds: float) -> None:
        super().show(image, seconds)
        self.times.append(self.clock.now)

    def wait(self, seconds: float) -> None:
        if self.times:
            self.clock.now = max(self.clock.now, self.times[0] + seconds)


@pytest.mark.parametrize("live", [True, False])
def test_a_slow_first_picture_delays_nothing_live(
    live: bool, small_onnx: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    scene, wall, predictor = Scene(clock, live), PacedWall(clock), mbdet.load(small_onnx("detection"))
    predict = predictor.predict

    def take_time(*inputs: np.ndarray) -> list[Any]:
        clock.now += 0.02 if wall.shown else 0.5
        return list(predict(*inputs))

    monkeypatch.setattr(predictor, "predict", take_time)
    assert watch(predictor, scene, wall, 0.5).pictures == 5
    if live:
        ages = [shown - taken for shown, taken in zip(wall.times, scene.taken, strict=False)]
        assert ages == pytest.approx([0.5, 0.02, 0.02, 0.02, 0.02])
    else:
        assert np.diff(wall.times) == pytest.approx([0.05] * 4)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_shows_a_video(kind: str, small_onnx: Callable[[str], Path], video: Path) -> None:
    predictor, wall = mbdet.load(small_onnx(kind)), Wall()
    report = watch(predictor, find_source(str(video), 1), wall, score=0.0)
    assert report.pictures == len(wall.shown) == 24
    assert list(report.medians) == ["read", "prepare", "network", "draw", "show"]
    assert all(value > 0 for value in report.medians.values())
    np.testing.assert_allclose([seconds for _, seconds in wall.shown], np.arange(24) / 12)
    assert {image.shape for image, _ in wall.shown} == {wall.shown[0][0].shape}
    height, width, _ = wall.shown[0][0].shape
    assert height % 2 == width % 2 == 0
    # What is drawn is what the model says of that picture; of one that is closed, only what comes after is not.
    source = find_source(str(video), 1)
    frame = source.read()
    assert frame is not None
    canvas = Canvas(predictor, frame.image.shape[:2], ["0.0 fps"])
    drawn = canvas.draw(frame.image, predictor.above(predictor.predict_one(frame.image), 0.0), None, [])
    np.testing.assert_array_equal(wall.shown[0][0][:90, :160], drawn[:90, :160])
    assert (drawn[:90, :160] != frame.image).any()


@pytest.mark.parametrize("kind", ["detection", "multitask"])
def test_objects_are_numbered(kind: str, small_onnx: Callable[[str], Path], video: Path) -> None:
    pytest.importorskip("edgefirst.tracker")
    from mbdet.demo.tracking import Tracker

    predictor, wall, plain = mbdet.load(small_onnx(kind)), Wall(), Wall()
    report = watch(predictor, find_source(str(video), 1), wall, 0.3, Tracker(0.3))
    assert list(report.medians) == ["read", "prepare", "network", "track", "draw", "show"]
    assert report.pictures == 24
    # No object of the first picture carries on a track, so that only the numbers differ from what is drawn without.
    watch(predictor, find_source(str(video), 1), plain, 0.3, limit=1)
    source, tracker = find_source(str(video), 1), Tracker(0.3)
    frame = source.read()
    assert frame is not None
    found = predictor.predict_one(frame.image)
    kept, numbers = tracker.update(found if kind == "detection" else found.detections, 0.0)
    assert set(numbers) == set(range(1, len(numbers) + 1)) != set()
    canvas = Canvas(predictor, frame.image.shape[:2], ["0.0 fps"])
    numbered = canvas.draw(frame.image, kept if kind == "detection" else found._replace(detections=kept), numbers, [])
    np.testing.assert_array_equal(wall.shown[0][0][:90, :160], numbered[:90, :160])
    assert (wall.shown[0][0][:90, :160] != plain.shown[0][0][:90, :160]).any()


class StalledCamera(Scene):
    """A camera that never gives a picture."""

    def ready(self) -> bool:
        return False


def test_a_window_is_closed_while_a_camera_stalls(small_onnx: Callable[[str], Path]) -> None:
    class Closing(Wall):
        def refresh(self) -> None:
            self.is_open = False

    source = StalledCamera(Clock(), live=True)
    assert watch(mbdet.load(small_onnx("detection")), source, Closing(), 0.5).pictures == 0
    assert not source.taken


def test_a_name_is_no_markup(small_onnx: Callable[[str], Path], video: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shots[" / "a]"  # shots[/a]
    folder.mkdir(parents=True)
    copy = Path(shutil.copy(video, folder))
    assert watch(mbdet.load(small_onnx("detection")), find_source(str(copy), 1), Wall(), 0.5, limit=1).pictures == 1


@pytest.mark.parametrize("interrupt", [False, True])
def test_a_closed_window_and_an_interrupt_end_it(
    interrupt: bool, small_onnx: Callable[[str], Path], video: Path
) -> None:
    wall = Wall(3, interrupt)
    report = watch(mbdet.load(small_onnx("detection")), find_source(str(video), 1), wall, 0.5)
    assert len(wall.shown) == 3
    assert report.pictures == 3 - interrupt


def test_a_limit(small_onnx: Callable[[str], Path], video: Path) -> None:
    assert watch(mbdet.load(small_onnx("detection")), find_source(str(video), 1), Wall(), 0.5, limit=2).pictures == 2


def test_a_camera_that_disappears(small_onnx: Callable[[str], Path], unplug: Callable[..., object]) -> None:
    unplug(pictures=50)
    camera, wall = find_source("0", 1), Wall()
    report = watch(mbdet.load(small_onnx("detection")), camera, wall, 0.5)
    camera.close()
    assert 1 <= report.pictures <= 50
    assert camera.problem == "camera 0: gives no more pictures; was it unplugged?"


def test_a_video_that_ends_within_a_picture(small_onnx: Callable[[str], Path], cut_video: Path) -> None:
    source = find_source(str(cut_video), 1)
    assert 13 <= watch(mbdet.load(small_onnx("detection")), source, Wall(), 0.5).pictures <= 15
    assert source.problem is not None


def test_pictures_of_other_sizes_and_one_alone(small_onnx: Callable[[str], Path], shapes: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (31, 55)).save(tmp_path / "a.png")
    Image.new("RGB", (77, 20)).save(tmp_path / "b.png")
    predictor, wall = mbdet.load(small_onnx("segmentation")), Wall()
    assert watch(predictor, find_source(str(tmp_path), 1), wall, 0.0).pictures == 2
    assert len({image.shape for image, _ in wall.shown}) == 1
    assert wall.held == 0
    assert watch(predictor, find_source(str(tmp_path / "a.png"), 1), wall, 0.0).pictures == 1
    assert wall.held == 1  # a picture by itself stays until somebody closes it
