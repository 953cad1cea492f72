"""The demo as a command, on a video made here."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from mbdet.cli import main
from mbdet.data.shapes import draw_scene
from mbdet.demo.sources import VideoFile


@pytest.fixture(scope="module")
def detector(small_onnx: Callable[[str], Path]) -> Path:
    return small_onnx("detection")


@pytest.fixture(scope="module")
def segmenter(small_onnx: Callable[[str], Path]) -> Path:
    return small_onnx("segmentation")


def make_video(path: Path, pictures: list[np.ndarray], steps: int = 8) -> Path:
    """Write a video that moves over pictures (RGB), each for some steps."""
    height, width = np.min([picture.shape[:2] for picture in pictures], axis=0) - steps
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25.0, (int(width), int(height)))
    for picture in pictures:
        for step in range(steps):
            part = picture[step : step + height, step : step + width, ::-1]
            writer.write(np.ascontiguousarray(part))
    writer.release()
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pictures = [draw_scene(1, 1, index, 120, 160).image for index in range(3)]
    return make_video(tmp_path_factory.mktemp("videos") / "shapes.mp4", pictures)


def test_a_video_without_a_window(
    detector: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "out.mp4"
    assert main(["demo", str(detector), "--source", str(video), "--output", str(output), "--score", "0.3"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{video}: 24 pictures at ")
    for stage in ("fps", "read ", "prepare ", "network ", "draw ", "write "):
        assert stage in printed
    written = VideoFile(output)
    assert (written.count, written.rate) == (24, 25)
    frame = written.read()
    assert frame is not None
    assert frame.image.shape[1] == 152
    assert frame.image.shape[0] > 112  # the strip with the times


def test_it_runs_without_torch(detector: Path, video: Path, tmp_path: Path) -> None:
    arguments = ["demo", str(detector), "--source", str(video), "--output", str(tmp_path / "out.mp4")]
    code = (
        "import sys; sys.modules['torch'] = None\n"  # an import of it fails
        f"from mbdet.cli import main\nsys.exit(main({arguments!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.mp4").exists()


def test_opencv_does_not_chatter(detector: Path, video: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    for source in ("99", str(cut), "http://127.0.0.1:9/x"):
        arguments = ["demo", str(detector), "--source", source]
        code = f"import sys; from mbdet.cli import main; sys.exit(main({arguments!r}))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr.startswith("mbdet: error: ")
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--source", "none.mp4"], "none.mp4: there is no such video"),
        (["--scroe", "1"], "demo takes no --scroe"),
        (["--rate", "0"], "--rate must be above 0"),
        (["--rate", "nan"], "--rate must be above 0"),
        (["--rate", "inf"], "--rate must be above 0"),
        (["--build", "page"], "--build is for the page of --web; give both"),
        (["--port", "80"], "--port is for the page of --web; give both"),
        (["--no-browser"], "--no-browser is for the page of --web; give both"),
        (["--limit", "0"], "--limit at least 1"),
        (["--source", "VIDEO", "--output", "out.gif"], "out.gif: a video is called something.mp4"),
    ],
)
def test_bad_input(
    options: list[str], message: str, detector: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [str(video) if option == "VIDEO" else option for option in options]
    assert main(["demo", str(detector), *options]) == 2
    assert message in capsys.readouterr().err


def test_what_a_segmenter_cannot_do(segmenter: Path, video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", str(segmenter), "--source", str(video), "--track"]) == 2
    assert "--track: numbers objects, but this model is a segmenter" in capsys.readouterr().err
    assert main(["demo", str(segmenter), "--source", str(video), "--output", "out.mp4", "--score", "0.5"]) == 2
    assert "export it with --probabilities" in capsys.readouterr().err


def test_real_pictures(detector: Path, real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mbdet.runtime.image import image_files, read_image

    pictures = [read_image(path) for path in image_files(real_data / "coco" / "val2017")[:4]]
    video = make_video(tmp_path / "in.mp4", pictures)
    assert main(["demo", str(detector), "--source", str(video), "--output", str(tmp_path / "out.avi")]) == 0
    assert ": 32 pictures at " in capsys.readouterr().out
    assert VideoFile(tmp_path / "out.avi").count == 32
