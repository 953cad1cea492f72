"""The import layers of the architecture, and what importing costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "mbdet"

# Each may import itself and what stands before it.
LAYERS = (
    ("errors",),
    ("runtime",),
    ("demo",),
    ("types", "ops"),
    ("backbones",),
    ("models", "cost"),
    ("predictor",),
    ("data", "metrics", "weights", "export", "report", "interop", "testing", "web"),
    ("checkpoint", "tasks"),
    ("config",),
    ("commands",),
    ("cli",),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def imported_parts(file: Path) -> set[str]:
    """Return the parts of mbdet that a file imports at any depth, its own names for itself left out."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name.split(".")[1] for name in names if name.startswith("mbdet.")}


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_follow_the_layers(file: Path) -> None:
    part = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if part == "__init__":
        return
    above = {name for name in imported_parts(file) if name in RANK and RANK[name] > RANK[part]}
    assert not above, f"{part} may not import {above}"


def test_every_part_has_a_layer() -> None:
    parts = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert parts - {"__init__"} == set(RANK)


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import mbdet", ["torch", "numpy", "lightning"]),
        ("import mbdet.cli", ["torch", "numpy", "lightning"]),
        ("import mbdet.runtime.onnx", ["torch", "torchvision", "lightning", "albumentations", "pycocotools"]),
        ("import mbdet.runtime.load, mbdet.runtime.finish", ["torch", "onnxruntime", "openvino", "ncnn"]),
        ("import mbdet.runtime.litert", ["torch", "torchvision", "lightning"]),
        ("import mbdet.runtime.openvino", ["torch", "torchvision", "lightning"]),
        ("import mbdet.runtime.ncnn", ["torch", "torchvision", "lightning"]),
        ("import mbdet.commands.predict", ["torch", "lightning"]),
        ("import mbdet.commands.demo", ["torch", "lightning", "onnxruntime", "cv2", "tkinter"]),
        ("import mbdet.commands.contract", ["torch", "lightning", "onnxruntime", "ai_edge_litert"]),
        ("import mbdet.metrics.coco, mbdet.report.tables", ["torch", "lightning"]),
    ],
)
def test_imports_stay_light(statement: str, unwanted: list[str]) -> None:
    code = f"{statement}\nimport sys\nprint([name for name in {unwanted} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
