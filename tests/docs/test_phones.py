"""The guides' Kotlin and Swift against Python, on the same inputs.

A Kotlin compiler is what `pip install kotlin-jupyter-kernel` brings, which needs a Java runtime on the path, or else a
`kotlinc` on the path. A Swift compiler is a `swiftc` on the path, as Xcode or Debian 13's package `swiftlang` have it.
Where there is none, its tests are skipped. What needs Android's or Apple's own libraries is not compiled.
"""

import importlib.util
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mbdet.runtime.finish import finish
from mbdet.runtime.image import Resizing, central_crop, place
from mbdet.runtime.maps import restore_map
from mbdet.runtime.predictor import to_original

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs"
# Odd sizes of pictures, which become smaller, larger or both; and of network inputs.
SIZES = [((37, 53), (24, 31)), ((200, 7), (33, 33)), ((9, 11), (31, 18)), ((1, 1), (5, 4)), ((301, 199), (64, 96))]
RESIZINGS: tuple[Resizing, ...] = ("stretch", "fit", "pad")
Run = Callable[[str], list[str]]


def kotlin_compiler() -> list[str] | None:
    """Return the command of a Kotlin compiler without its arguments, if there is one."""
    found = importlib.util.find_spec("run_kotlin_kernel")
    if shutil.which("java") and found is not None and found.submodule_search_locations:
        jars = Path(found.submodule_search_locations[0]) / "jars"
        (library,) = jars.glob("kotlin-stdlib-*.jar")
        (compiler,) = jars.glob("kotlin-jupyter-kernel-*-all.jar")
        main = ["org.jetbrains.kotlin.cli.jvm.K2JVMCompiler", "-no-stdlib", "-no-reflect", "-classpath", str(library)]
        return ["java", "-classpath", f"{compiler}:{library}", *main]
    return ["kotlinc"] if shutil.which("java") and shutil.which("kotlinc") else None


def build_kotlin(folder: Path) -> list[str]:
    """Compile the guide's Kotlin and return the command that runs it."""
    compiler = kotlin_compiler()
    if compiler is None:
        pytest.skip("no Kotlin compiler: pip install kotlin-jupyter-kernel, with java on the path")
    sources = [*(DOCS / "android" / f"{name}.kt" for name in ("Prepare", "Finish", "Model")), HERE / "Check.kt"]
    program = folder / "check.jar"
    if compiler == ["kotlinc"]:
        command = [*compiler, "-include-runtime"]
        classes = str(program)
    else:
        command = compiler
        classes = f"{program}:{compiler[-1]}"
    compile_quietly([*command, "-d", str(program), *map(str, sources)])
    return ["java", "-classpath", classes, "CheckKt"]


def build_swift(folder: Path) -> list[str]:
    """Compile the guide's Swift and return the command that runs it."""
    if not shutil.which("swiftc"):
        pytest.skip("no Swift compiler: put swiftc on the path; Debian 13 has it as swiftlang")
    sources = [*(DOCS / "ios" / f"{name}.swift" for name in ("Prepare", "Finish", "Found")), HERE / "main.swift"]
    program = folder / "check"
    compile_quietly(["swiftc", "-o", str(program), *map(str, sources), "-lm"])
    return [str(program)]


def compile_quietly(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module", params=["Kotlin", "Swift"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a function that gives the program lines of cases and returns its lines of results."""
    folder = tmp_path_factory.mktemp(request.param)
    command = build_kotlin(folder) if request.param == "Kotlin" else build_swift(folder)

    def run(lines: str) -> list[str]:
        return subprocess.run(command, input=lines, capture_output=True, text=True, check=True).stdout.splitlines()

    return run


def line(*words: Any) -> str:
    """Write a case: words, numbers, tuples and arrays, one after the other."""
    parts = (word.ravel().tolist() if isinstance(word, np.ndarray) else word for word in words)
    flat = (item for part in parts for item in (part if isinstance(part, list | tuple) else [part]))
    return " ".join(map(str, flat)) + "\n"


def numbers(text: str) -> NDArray[np.float64]:
    return np.array(text.split(), dtype=np.float64)


def test_pixels_are_the_same_to_the_byte(run: Run) -> None:
    rng = np.random.default_rng(0)
    cases, expected = [], []
    for size, input_size in SIZES:
        for resizing in RESIZINGS:
            crop = 0.875 if resizing == "stretch" else 1.0
            for image in (rng.integers(0, 256, (*size, 3)), 255 * rng.integers(0, 2, (*size, 3))):
                pixels = image.astype(np.uint8)
                cases.append(line("prepare", size, input_size, resizing, crop, pixels))
                expected.append(place(central_crop(pixels, crop), input_size, resizing).transpose(2, 0, 1))
    found = run("".join(cases))
    for case, text, pixels in zip(cases, found, expected, strict=True):
        np.testing.assert_array_equal(numbers(text), pixels.ravel(), err_msg=case[:40])


def scenes() -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32], dict[str, float]]]:
    """Yield boxes, scores with many ties, and options, some of which cut in the middle of a tie."""
    rng = np.random.default_rng(0)
    limits = [(200, 100, 100), (50, 3, 100), (1, 1, 1), (60, 100, 4)]
    for anchors, classes in ((80, 4), (33, 1)):
        for score_threshold in (0.0, 0.3, 1.0):
            for iou_threshold in (0.0, 0.6):
                for candidates, per_class, most in limits:
                    corners = rng.uniform(0, 60, (anchors, 2))
                    boxes = np.concatenate([corners, corners + rng.uniform(-2, 40, (anchors, 2))], 1)
                    scores = rng.uniform(0, 1, (anchors, classes)).round(2)
                    yield (
                        boxes.astype(np.float32),
                        scores.astype(np.float32),
                        {
                            "score_threshold": score_threshold,
                            "iou_threshold": iou_threshold,
                            "max_candidates": candidates,
                            "max_per_class": per_class,
                            "max_detections": most,
                        },
                    )


def test_objects_are_the_same(run: Run) -> None:
    input_size, size = (96, 96), (117, 333)
    cases, expected = [], []
    for boxes, scores, options in scenes():
        cases.append(line("detections", input_size, size, scores.shape, *options.values(), boxes, scores))
        found = finish({"anchor_boxes": boxes[None], "class_scores": scores[None]}, options)
        count = found["counts"][0]
        placed = to_original(found["boxes"][0, :count], input_size, np.array(size))
        rows = (found["labels"][0, :count, None], found["scores"][0, :count, None], placed)
        expected.append(np.concatenate(rows, axis=1))
    assert {len(rows) for rows in expected} >= {0, 1, 4}
    assert max(len(rows) for rows in expected) > 50
    for text, rows in zip(run("".join(cases)), expected, strict=True):
        np.testing.assert_allclose(numbers(text).reshape(-1, 6), rows, rtol=0, atol=1e-3)


def test_maps_are_the_same(run: Run) -> None:
    rng = np.random.default_rng(0)
    cases, expected = [], []
    # More classes than a signed byte has labels; those of a multitask file have names of their own.
    kinds = [("multitask", "stretch"), *(("segmentation", resizing) for resizing in RESIZINGS)]
    for size, input_size in SIZES:
        for task, resizing in kinds:
            classes = rng.integers(0, 200, input_size).astype(np.uint8)
            cases.append(line("map", task, input_size, size, resizing, 200, classes))
            expected.append(restore_map(classes, size, input_size, resizing))
    assert max(classes.max() for classes in expected) > 127
    for text, classes in zip(run("".join(cases)), expected, strict=True):
        np.testing.assert_array_equal(numbers(text), classes.ravel())


def test_the_likeliest_classes_are_the_same(run: Run) -> None:
    many, few = np.array([0.1, 0.2, 0.05, 0.2, 0.1, 0.05, 0.3], np.float32), np.array([0.25, 0.75], np.float32)
    found = run("".join(line("top", "classification", len(values), values) for values in (many, few)))
    np.testing.assert_allclose(numbers(found[0]).reshape(-1, 2)[:, 0], [6, 1, 3, 0, 4])
    np.testing.assert_allclose(numbers(found[1]).reshape(-1, 2), [[1, 0.75], [0, 0.25]])


def test_a_segmenter_s_probabilities_are_not_ranked(run: Run) -> None:
    with pytest.raises(subprocess.CalledProcessError) as failed:
        run(line("top", "segmentation", 2, 0.25, 0.75))
    assert "names() needs a classifier, not segmentation" in failed.value.stderr
