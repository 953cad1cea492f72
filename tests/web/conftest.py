"""What the tests of the page share: Chromium, the engine, and pages for small models."""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from threading import Thread

import pytest
from chromium import Browser, install
from PIL import Image
from small_exports import NAMES, scenes, small_export

from mbdet.data.shapes import draw_scene
from mbdet.errors import InputError
from mbdet.export.base import Form
from mbdet.export.format import Order, write_verified
from mbdet.export.onnx import OnnxFormat
from mbdet.export.segmentation import SegmentationExport
from mbdet.web import build as building
from mbdet.web.npm import cache_folder, fetch
from mbdet.web.server import Server

# Codes of Node.js for a network that is not there.
OUT_OF_REACH = re.compile(
    r"npm cannot fetch it .*\b(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ERR_SOCKET_TIMEOUT|ENETUNREACH"
    r"|EHOSTUNREACH|ENETDOWN)\b|no Chromium is installed"
)
Serve = Callable[[Path], AbstractContextManager[str]]


@pytest.fixture(scope="session")
def npm_folder(request: pytest.FixtureRequest) -> Path:
    """Return where packages of npm are kept from one test run to the next, out of git's sight."""
    if missing := [name for name in ("node", "npm") if shutil.which(name) is None]:
        pytest.skip(f"{missing[0]} is not installed")
    assert request.config.cache is not None
    return Path(request.config.cache.mkdir("mbdet"))


@contextmanager
def skip_out_of_reach() -> Iterator[None]:
    """Skip where npm reaches no registry or no Chromium is for this system; anything else that is wrong stays wrong."""
    try:
        yield
    except InputError as error:
        if not OUT_OF_REACH.search(str(error)):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def engine(npm_folder: Path) -> Iterator[Path]:
    """Have the engine taken from that folder, and return its archive."""
    with skip_out_of_reach():
        archive = fetch(building.ENGINE, npm_folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(npm_folder.parent))
        assert cache_folder() == npm_folder
        yield archive


@pytest.fixture(scope="session")
def browser(npm_folder: Path) -> Browser:
    """Return a Chromium that can be driven."""
    with skip_out_of_reach():
        browser = install(npm_folder)
    if problem := browser.check():
        pytest.skip(problem)
    return browser


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that gives the file of a small model: of a task, of a segmenter that sees whole pictures
    ("fit"), or of a detector without suppression ("unsuppressed").
    """
    folder = tmp_path_factory.mktemp("models")

    def make(kind: str) -> Path:
        path = folder / f"{kind}.onnx"
        if not path.exists():
            export = small_export({"fit": "segmentation", "unsuppressed": "detection"}.get(kind, kind))
            if kind == "fit":
                export = SegmentationExport(export.network, "fit")
            form = Form(nms=kind != "unsuppressed", probabilities=kind in ("multitask", "segmentation"))
            write_verified(OnnxFormat(), Order(export, form, NAMES), export, path, scenes())
        return path

    return make


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a picture without loss, so that both sides see the same values; its size is no multiple of a network's."""
    path = tmp_path_factory.mktemp("scene") / "scene.png"
    Image.fromarray(draw_scene(1, 1, 7, 203, 331).image).save(path)
    return path


@pytest.fixture(scope="session")
def serve(engine: Path, tmp_path_factory: pytest.TempPathFactory) -> Serve:
    """Return a context that builds and serves the page for a model, and gives its address."""
    folders: dict[Path, Path] = {}

    @contextmanager
    def running(model: Path) -> Iterator[str]:
        if model not in folders:
            folders[model] = tmp_path_factory.mktemp("page")
            building.build(model, folders[model])
        with serving(folders[model]) as url:
            yield url

    return running


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve a folder and give its address."""
    with Server(folder, 0) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()
