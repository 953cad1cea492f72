"""How the page is used: by keyboard, on a phone, on a GPU, and from another web server."""

import functools
import http.server
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from chromium import DONE, Browser
from conftest import Serve, serving
from test_page import assert_same_boxes

import mbdet
from mbdet.web.build import build

Models = Callable[[str], Path]
FOCUS = """(() => {
    const element = document.activeElement;
    const shown = element.id === "file" ? document.querySelector("label[for=file]") : element;
    return [element.id || element.tagName, getComputedStyle(shown).outlineStyle, element.labels?.length ?? 0];
})()"""


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


def test_a_file_is_opened_by_keyboard(browser: Browser, serve: Serve, models: Models, scene: Path) -> None:
    steps = [["open"], ["wait", "Ready"], ["press", "Tab"], ["pressAndChoose", "Enter", str(scene)], ["wait", DONE]]
    with serve(models("detection")) as url:
        report = browser.drive(url, [*steps, ["look"]])
    assert report["values"][-1]["boxes"]


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


@pytest.mark.slow
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
