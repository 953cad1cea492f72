"""The folder of the page: its own files, the engine and the model."""

import json
import shutil
from pathlib import Path
from typing import Any

from mbdet.errors import InputError
from mbdet.runtime.model_file import ModelFile
from mbdet.web.npm import Package, cache_folder, extract, fetch

ENGINE = Package(
    "onnxruntime-web",
    "1.30.0",
    "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
)
# The engine's files, for the CPU and for WebGPU, and how they are called here: many web servers know .js alone.
_ENGINE_FILES = {
    "dist/ort.wasm.min.mjs": "wasm.js",
    "dist/ort-wasm-simd-threaded.mjs": "wasm-threads.js",
    "dist/ort-wasm-simd-threaded.wasm": "wasm.wasm",
    "dist/ort.webgpu.min.mjs": "webgpu.js",
    "dist/ort-wasm-simd-threaded.asyncify.mjs": "webgpu-threads.js",
    "dist/ort-wasm-simd-threaded.asyncify.wasm": "webgpu.wasm",
}
PAGE = Path(__file__).parent / "page"  # its own files
_ENGINE_FOLDER, _MODEL, _DESCRIPTION = "engine", "model.onnx", "model.json"
TASKS = ("detection", "segmentation", "multitask")  # that the page can show


def build(model: Path, folder: Path) -> None:
    """Write the page for a model, ready for any web server.

    Args:
        model: An ONNX file exported by mbdet.
        folder: Where to; it is made, or is empty, or holds an earlier page of ours, which is replaced.

    Raises:
        InputError: If the model cannot be shown, the folder holds something else or cannot be written, or the engine
            cannot be fetched.
    """
    description = describe(model)
    page_files = sorted(path for path in PAGE.iterdir() if path.is_file())
    try:
        _check_free(folder, {_ENGINE_FOLDER, _MODEL, _DESCRIPTION, *(path.name for path in page_files)})
        if model.resolve().parent == folder.resolve():
            raise InputError(f"{model}: lies in the folder of the page itself; give another folder")
        archive = fetch(ENGINE, cache_folder())
        engine = folder / _ENGINE_FOLDER
        engine.mkdir(parents=True, exist_ok=True)
        # First, as a folder that has it is known as ours: so what is interrupted can be repeated.
        (folder / _DESCRIPTION).write_text(json.dumps({**description, "file": model.name}, indent=1) + "\n")
        extract(archive, {name: engine / ours for name, ours in _ENGINE_FILES.items()})
        for path in page_files:
            shutil.copyfile(path, folder / path.name)
        shutil.copyfile(model, folder / _MODEL)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror or error}); give another folder") from error


def _check_free(folder: Path, names: set[str]) -> None:
    """Refuse a folder that holds more than an earlier page, made of files of these names."""
    held = sorted(folder.iterdir()) if folder.exists() else []
    cure = "give a new or an empty folder"
    for path in held:
        if path.name not in names:
            raise InputError(f"{folder}: holds {path.name}, which is not of the page; {cure}")
    engine = folder / _ENGINE_FOLDER
    for path in [*held, *(sorted(engine.iterdir()) if engine.is_dir() else [])]:
        if path.is_symlink():
            raise InputError(f"{path}: is a symbolic link, through which nothing is written; {cure}")
    if held and not _is_ours(folder / _DESCRIPTION):
        raise InputError(f"{folder}: holds {held[0].name}, but no {_DESCRIPTION} of mbdet; {cure}")


def _is_ours(description: Path) -> bool:
    try:
        content = json.loads(description.read_text())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("task") in TASKS and "mbdet_version" in content


def describe(model: Path) -> dict[str, Any]:
    """Return the description of a model that the page can show.

    Raises:
        InputError: If it is not one.
    """
    if model.suffix != ".onnx":
        raise InputError(f"{model}: browsers run ONNX files; write one with tools/export.py --format onnx")
    from mbdet.runtime.onnx import OnnxFile

    file: ModelFile = OnnxFile(model, "cpu")
    if file.task not in TASKS:
        raise InputError(f"{model}: is for {file.task}; the page shows {', '.join(TASKS)}")
    if "anchor_boxes" in file.description["output"]:
        raise InputError(f"{model}: leaves suppression to others; export it without --no-nms")
    return dict(file.description)
