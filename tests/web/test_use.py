"""How the page is used: by keyboard, on a phone, with videos and cameras, on a GPU, and from another web server."""

import functools
import http.server
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from chromium import DONE, Browser
from conftest import Serve, serving
from PIL import Image
from test_page import assert_same_boxes

import mbdet
from mbdet.data.shapes import draw_scene
from mbdet.web.build import build

Models = Callable[[str], Path]
FOCUS = """(() => {
    const element = document.activeElement;
    const shown = element.id === "file" ? document.querySelector("label[for=file]") : element;
    return [element.id || element.tagName, getComputedStyle(shown).outlineStyle, element.labels?.length ?? 0];
})()"""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scene") / "scene.png"
    Image.fromarray(draw_scene(1, 1, 7, 203, 331).image).save(path)
    return path


def test_everything_is_reached_by_keyboard(browser: Browser, serve: Serve, models: Models, scene: Path) -> None:
    stops = ["file", "camera", "score", "sure", "opacity", "device", "SUMMARY", "A"]
    tabs = [step for _ in stops for step in (["press", "Tab"], ["evaluate", FOCUS])]
    back = [["press", "Shift+Tab"]] * 2
    steps = [
        ["open"],
        ["wait", "Ready"],
        *tabs,
        *back,  # on the device
        ["press", "Shift+Tab"],
        ["press", "Home"],
        ["evaluate", "document.getElementById('opacity-value').textContent"],
        *[["press", "Tab"]] * 2,
        ["drop", str(scene), "image/png"],
        ["wait", DONE],
        ["press", "Enter"],
        ["until", "document.querySelectorAll('#list tbody tr').length > 3"],
        ["evaluate", "document.querySelectorAll('#list tbody tr').length"],
        ["look"],
    ]
    with serve(models("multitask")) as url:
        values = browser.drive(url, steps)["values"]
    reached = [value for value in values if isinstance(value, list)]
    assert [name for name, _, _ in reached] == stops
    assert {outline for _, outline, _ in reached} == {"solid"}  # where the focus is can be seen
    assert {labels for name, _, labels in reached if name in ("file", "score", "sure", "opacity", "device")} == {1}
    assert "0.00" in values
    assert values[-2] == len(values[-1]["boxes"])


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_it_fits_a_phone(browser: Browser, serve: Serve, models: Models, scene: Path, colours: str) -> None:
    wide = """(() => {
        const sizes = [...document.querySelectorAll("button, .button, select")].filter((e) => e.offsetParent);
        return {
            page: document.documentElement.scrollWidth,
            window: innerWidth,
            lowest: Math.min(...sizes.map((e) => e.getBoundingClientRect().height)),
            stage: document.getElementById("stage").getBoundingClientRect().width,
            ground: getComputedStyle(document.body).backgroundColor,
        };
    })()"""
    steps = [["open"], ["wait", "Ready"], ["evaluate", wide], ["drop", str(scene), "image/png"], ["wait", DONE]]
    with serve(models("multitask")) as url:
        report = browser.drive(url, [*steps, ["evaluate", wide]], viewport=(390, 844), colours=colours)
    before, after = report["values"][2], report["values"][-1]
    assert before["page"] == after["page"] == after["window"] == 390  # nothing to scroll sideways
    assert after["lowest"] >= 44  # high enough for a finger
    assert after["stage"] > 350
    lightness = int(after["ground"].removeprefix("rgb(").split(",")[0])
    assert lightness > 200 if colours == "light" else lightness < 50


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


def test_a_gpu_finds_the_same(browser: Browser, serve: Serve, models: Models, scene: Path) -> None:
    chosen = "[...document.getElementById('device').options].map((option) => [option.value, option.selected])"
    steps = [
        ["open"],
        ["wait", "Ready"],
        ["evaluate", chosen],
        ["set", "#device", "webgpu"],
        ["wait", "Ready|GPU"],
        ["drop", str(scene), "image/png"],
        ["wait", DONE],
        ["look"],
    ]
    # Chromium's own imitation of a GPU, which the page does not take by itself.
    flags = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan")
    model = models("detection")
    with serve(model) as url:
        report = browser.drive(url, steps, flags=flags)
    values = report["values"]
    if len(values[2]) == 1:
        pytest.skip("this Chromium has no WebGPU here")
    assert values[2] == [["wasm", True], ["webgpu", False]]
    assert values[7]["times"].endswith("GPU")
    expected = mbdet.load(model)(scene)
    assert len(expected.boxes) > 3
    assert_same_boxes(values[7]["boxes"], expected, score_tolerance=1e-3)
    assert report["errors"] == []


def test_several_threads_run_under_the_servers_policy(
    browser: Browser, models: Models, engine: Path, scene: Path, tmp_path: Path
) -> None:
    build(models("detection"), tmp_path)
    # As on a machine with more cores than this one may have.
    worker = tmp_path / "worker.js"
    ours = "if (!self.crossOriginIsolated) engine.env.wasm.numThreads = 1;"
    assert ours in worker.read_text()
    worker.write_text(worker.read_text().replace(ours, "engine.env.wasm.numThreads = 3;"))
    with serving(tmp_path) as url:
        report = browser.drive(
            url, [["open"], ["wait", "Ready"], ["drop", str(scene), "image/png"], ["wait", DONE], ["look"]]
        )
    assert report["errors"] == []
    assert report["values"][4]["times"].endswith("CPU, 3 threads")
    assert len(report["values"][4]["boxes"]) == len(mbdet.load(models("detection"))(scene).boxes)


def test_any_web_server_can_host_it(
    browser: Browser, models: Models, engine: Path, scene: Path, tmp_path: Path
) -> None:
    build(models("detection"), tmp_path / "site" / "demo")
    handler = functools.partial(Silent, directory=str(tmp_path / "site"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        steps = [["open", "demo/"], ["wait", "Ready"], ["drop", str(scene), "image/png"], ["wait", DONE], ["look"]]
        try:
            report = browser.drive(f"http://127.0.0.1:{server.server_port}/", steps)
        finally:
            server.shutdown()
            thread.join()
    assert report["errors"] == []
    assert report["values"][4]["times"].endswith("CPU, 1 thread")
    assert len(report["values"][4]["boxes"]) == len(mbdet.load(models("detection"))(scene).boxes)


class Silent(http.server.SimpleHTTPRequestHandler):
    """The server of Python's library, without headers of ours."""

    def log_message(self, format: str, *args: object) -> None:
        pass
