import errno
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from mbdet.errors import InputError
from mbdet.web.build import ENGINE, PAGE, build, describe

Models = Callable[[str], Path]


@pytest.mark.parametrize("kind", ["detection", "segmentation", "multitask"])
def test_these_models_can_be_shown(models: Models, kind: str) -> None:
    assert describe(models(kind))["task"] == kind


def test_the_folder_has_all_that_the_page_refers_to(models: Models, engine: Path, tmp_path: Path) -> None:
    model, folder = models("multitask"), tmp_path / "new" / "page"
    build(model, folder)
    assert (folder / "model.onnx").read_bytes() == model.read_bytes()
    description = json.loads((folder / "model.json").read_text())
    assert description["file"] == "multitask.onnx"
    assert description["segment_names"] == ["cat", "dog", "gnu"]
    for path in folder.glob("*.js"):
        text = path.read_text()
        assert all((folder / name).is_file() for name in re.findall(r'from "\./(.+?)"', text)), path.name
    page = (folder / "index.html").read_text()
    assert all((folder / name).is_file() for name in re.findall(r'(?:src|href)="(.+?)"', page))
    sizes = {path.name: path.stat().st_size for path in (folder / "engine").iterdir()}
    assert set(sizes) == {
        f"{device}{rest}" for device in ("wasm", "webgpu") for rest in (".js", "-threads.js", ".wasm")
    }
    assert (folder / "engine" / "wasm.wasm").read_bytes()[:4] == b"\0asm"
    assert ENGINE.version in (folder / "engine" / "wasm.js").read_text()[:200]
    licences = (folder / "licences.txt").read_text()
    assert f"ONNX Runtime Web {ENGINE.version}:" in licences
    assert f"/v{ENGINE.version}/ThirdPartyNotices.txt" in licences


def test_the_pages_own_files_ask_no_other_host_for_anything() -> None:
    # Names of XML, and licences that a person may read.
    known = {
        "http://www.w3.org/2000/svg",
        "https://www.apache.org/licenses/LICENSE-2.0",
        f"https://github.com/microsoft/onnxruntime/blob/v{ENGINE.version}/ThirdPartyNotices.txt",
    }
    for path in PAGE.iterdir():
        found = set(re.findall(r"(?:https?:)?//[a-z0-9-]+\.[\w./-]+", path.read_text()))
        assert found <= known, path.name


def test_an_earlier_page_is_replaced(models: Models, engine: Path, tmp_path: Path) -> None:
    build(models("multitask"), tmp_path)
    build(models("detection"), tmp_path)
    assert json.loads((tmp_path / "model.json").read_text())["task"] == "detection"


def test_other_folders_are_left_alone(models: Models, engine: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds thesis\.txt, which is not of the page; give a new or an empty folder"):
        build(models("detection"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("description", [None, "no JSON", "[]", '{"task": "detection"}', '{"mbdet_version": "1.0"}'])
def test_another_site_of_the_same_names_is_left_alone(
    models: Models, engine: Path, tmp_path: Path, description: str | None
) -> None:
    (tmp_path / "index.html").write_text("mine")
    if description is not None:
        (tmp_path / "model.json").write_text(description)
    with pytest.raises(InputError, match=r"holds index\.html, but no model\.json of mbdet; give a new or an empty"):
        build(models("detection"), tmp_path)
    assert (tmp_path / "index.html").read_text() == "mine"
    assert not (tmp_path / "engine").exists()


@pytest.mark.parametrize("name", ["style.css", "model.json", "engine", "engine/wasm.js"])
def test_nothing_is_written_through_links(models: Models, engine: Path, tmp_path: Path, name: str) -> None:
    folder, elsewhere = tmp_path / "page", tmp_path / "elsewhere"
    build(models("detection"), folder)
    (folder / name).rename(elsewhere)
    (folder / name).symlink_to(elsewhere)
    with pytest.raises(InputError, match=rf"{re.escape(name)}: is a symbolic link, through which nothing is written"):
        build(models("multitask"), folder)
    assert json.loads((folder / "model.json").read_text())["task"] == "detection"


def test_an_interrupted_build_is_repeated(
    models: Models, engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(archive: Path, files: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("mbdet.web.build.extract", fail)
        with pytest.raises(InputError, match="cannot be written"):
            build(models("detection"), tmp_path)
    build(models("detection"), tmp_path)
    assert (tmp_path / "engine" / "wasm.js").is_file()


def test_a_file_in_the_place_of_the_folder(models: Models, engine: Path, tmp_path: Path) -> None:
    (tmp_path / "page").touch()
    with pytest.raises(InputError, match=r"page: cannot be written \(Not a directory\); give another folder"):
        build(models("detection"), tmp_path / "page")


def test_the_model_of_an_earlier_page_is_not_overwritten_by_itself(
    models: Models, engine: Path, tmp_path: Path
) -> None:
    build(models("detection"), tmp_path)
    with pytest.raises(InputError, match="lies in the folder of the page itself"):
        build(tmp_path / "model.onnx", tmp_path)
    build(tmp_path / "model.onnx", tmp_path / "second")


@pytest.mark.parametrize("name", ["model.ckpt", "model.tflite", "model"])
def test_other_formats(name: str) -> None:
    with pytest.raises(InputError, match=rf"{name}: browsers run ONNX files; write one with tools/export\.py"):
        describe(Path(name))


def test_a_task_that_it_does_not_show(models: Models) -> None:
    with pytest.raises(InputError, match="is for classification; the page shows detection, segmentation, multitask"):
        describe(models("classification"))


def test_a_model_without_suppression(models: Models) -> None:
    with pytest.raises(InputError, match="leaves suppression to others; export it without --no-nms"):
        describe(models("unsuppressed"))


def test_without_the_engine_nothing_is_written(models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match=r"onnxruntime-web 1\.30\.0 is fetched with npm, which is not installed"):
        build(models("detection"), tmp_path / "page")
    assert not (tmp_path / "page").exists()
