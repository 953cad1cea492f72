"""What moves on the page: videos and cameras."""

from collections.abc import Callable
from pathlib import Path

import pytest
from chromium import DONE, Browser
from conftest import Serve

Models = Callable[[str], Path]
RECORD = """(async () => {
    // A video of one second and a half: a square that grows.
    const canvas = document.createElement("canvas");
    canvas.width = 160;
    canvas.height = 120;
    const context = canvas.getContext("2d");
    const recorder = new MediaRecorder(canvas.captureStream(20), { mimeType: "video/webm;codecs=vp8" });
    const parts = [];
    recorder.ondataavailable = ({ data }) => parts.push(data);
    recorder.start();
    for (let side = 10; side < 40; side++) {
        context.fillStyle = "#888";
        context.fillRect(0, 0, 160, 120);
        context.fillStyle = "#f00";
        context.fillRect(20, 20, 2 * side, 2 * side);
        await new Promise((resolve) => setTimeout(resolve, 50));
    }
    await new Promise((resolve) => {
        recorder.onstop = resolve;
        recorder.stop();
    });
    const transfer = new DataTransfer();
    transfer.items.add(new File(parts, "square.webm", { type: "video/webm" }));
    document.getElementById("frame").dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true }));
})()"""
PICTURE = "document.getElementById('picture').toDataURL()"
SHOWN = "['camera', 'pause', 'stop'].map((id) => !document.getElementById(id).hidden)"


CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
# Keep hold of what the page gets from the camera.
HOLD = """(() => {
    const given = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = async (wish) => {
        const stream = await given(wish);
        [window.track] = stream.getVideoTracks();
        return stream;
    };
})()"""


def test_videos_run_pause_and_stop(browser: Browser, serve: Serve, models: Models) -> None:
    steps = [
        ["open"],
        ["wait", "Ready"],
        ["evaluate", RECORD],
        ["wait", r"square\.webm is running"],
        ["until", "/frames\\/s/.test(document.getElementById('times').textContent)"],
        ["evaluate", f"window.first = {PICTURE}"],
        ["until", f"window.first !== {PICTURE}"],  # the frames move on
        ["evaluate", "[document.getElementById('picture').width, document.getElementById('picture').height]"],
        ["click", "#pause"],
        ["evaluate", "document.getElementById('pause').textContent"],
        ["evaluate", "document.activeElement.id"],
        ["press", "Enter"],
        ["evaluate", "document.getElementById('pause').textContent"],
        ["evaluate", SHOWN],
        ["click", "#stop"],
        ["wait", "Stopped"],
        ["evaluate", SHOWN],
    ]
    with serve(models("detection")) as url:
        report = browser.drive(url, steps)
    assert report["errors"] == []
    values = report["values"]
    assert values[7] == [160, 120]
    assert values[9:13] == ["Go on", "pause", None, "Pause"]
    assert values[13] == [True, True, True]
    assert values[16] == [True, False, False]


def test_cameras_run_and_stop(browser: Browser, serve: Serve, models: Models, scene: Path) -> None:
    steps = [
        ["open"],
        ["wait", "Ready"],
        ["click", "#camera"],
        ["wait", "The camera is running"],
        ["until", "/frames\\/s/.test(document.getElementById('times').textContent)"],
        ["evaluate", f"window.first = {PICTURE}"],
        ["until", f"window.first !== {PICTURE}"],
        ["evaluate", SHOWN],
        # A picture takes its place.
        ["drop", str(scene), "image/png"],
        ["wait", DONE],
        ["evaluate", SHOWN],
        ["evaluate", "[document.getElementById('picture').width, document.getElementById('picture').height]"],
    ]
    with serve(models("segmentation")) as url:
        report = browser.drive(url, steps, flags=CAMERA, permissions=("camera",))
    assert report["errors"] == []
    assert report["values"][7] == [False, True, True]
    assert report["values"][10] == [True, False, False]
    assert report["values"][11] == [331, 203]


@pytest.mark.parametrize(
    ("happening", "sentence"),
    [
        ("track.dispatchEvent(new Event('ended'))", "The camera is gone"),  # as when it is unplugged
        ("Worker.prototype.postMessage = () => { throw new Error('The model is broken'); }; 0", "The model is broken"),
    ],
)
def test_a_camera_does_not_stay_on(
    browser: Browser, serve: Serve, models: Models, happening: str, sentence: str
) -> None:
    steps = [
        ["open"],
        ["wait", "Ready"],
        ["evaluate", HOLD],
        ["click", "#camera"],
        ["until", "/frames\\/s/.test(document.getElementById('times').textContent)"],
        ["evaluate", "track.readyState"],
        ["evaluate", happening],
        ["wait", sentence],
        ["evaluate", SHOWN],
        ["evaluate", "track.readyState"],
        ["look"],
    ]
    with serve(models("segmentation")) as url:
        report = browser.drive(url, steps, flags=CAMERA, permissions=("camera",))
    assert report["errors"] == []
    assert report["values"][5] == "live"
    assert report["values"][8:10] == [[True, False, False], "ended"]
    assert report["values"][10]["wrong"]


def test_nobody_waits_for_a_frame_after_the_end(browser: Browser, serve: Serve, models: Models) -> None:
    wait = """(async () => {
        const { openCamera } = await import("./sources.js");
        const camera = await openCamera("environment", () => {});
        camera.element.requestVideoFrameCallback = () => {}; // no frame comes any more
        const next = camera.nextFrame().then(() => "done");
        camera.end();
        return Promise.race([next, new Promise((resolve) => setTimeout(resolve, 5000, "waits"))]);
    })()"""
    with serve(models("detection")) as url:
        report = browser.drive(
            url, [["open"], ["wait", "Ready"], ["evaluate", wait]], flags=CAMERA, permissions=("camera",)
        )
    assert report["values"][2] == "done"


def test_a_video_that_cannot_go_on_says_so(browser: Browser, serve: Serve, models: Models) -> None:
    fail = "HTMLMediaElement.prototype.play = () => Promise.reject(new Error('no decoder')); 0"
    steps = [
        ["open"],
        ["wait", "Ready"],
        ["click", "#camera"],
        ["wait", "The camera is running"],
        ["click", "#pause"],
        ["evaluate", fail],
        ["click", "#pause"],
        ["wait", r"It cannot go on \(no decoder\)"],
        ["evaluate", "document.getElementById('pause').textContent"],
    ]
    with serve(models("detection")) as url:
        report = browser.drive(url, steps, flags=CAMERA, permissions=("camera",))
    assert report["errors"] == []
    assert report["values"][8] == "Go on"
