import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ncnn")

from mbdet.errors import InputError
from mbdet.runtime.load import load_file
from mbdet.runtime.ncnn import NcnnFile

LAYERS = """7767517
3 3
Input in0 0 1 in0
Convolution conv 1 1 in0 1 0=2 1=1 5=1 6=6
BinaryOp twice 1 1 1 out0 0=2 1=1 2=2.0
"""
WEIGHTS = np.array([[1, 0, 0], [0, 0.5, 1]], np.float32)
BIAS = np.array([0.25, -1], np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a segmenter of 5x7 pixels by hand: a 1x1 convolution to two classes, times 2."""
    path = tmp_path / "hand.ncnn.param"
    path.write_text(LAYERS)
    # A word that says how the weights are stored, 0 being single precision, stands before them, but not before biases.
    path.with_suffix(".bin").write_bytes(np.uint32(0).tobytes() + WEIGHTS.tobytes() + BIAS.tobytes())
    description = {
        "task": "segmentation",
        "class_names": ["red", "blue"],
        "precision": "fp32",
        "input": {"size": [5, 7], "batch": 1, "resize": "stretch"},
        "output": {"logits": "of each class"},
    }
    path.with_name("hand.ncnn.param.json").write_text(json.dumps(description))
    return path


@pytest.mark.parametrize("threads", [None, 1])
def test_it_computes_what_its_layers_say(path: Path, threads: int | None) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8).transpose(0, 3, 1, 2)
    file = NcnnFile(path, "cpu", threads)
    expected = 2 * (np.einsum("kc,bchw->bkhw", WEIGHTS, images.astype(np.float32)) + BIAS[:, None, None])
    for image, wanted in zip(images, expected, strict=True):
        (found,) = file.compute(image[None]).values()
        np.testing.assert_allclose(found, wanted[None], rtol=1e-6)
    np.testing.assert_array_equal(file.run(images)["classes"], expected.argmax(1))


def test_it_runs_without_torch(path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"  # an import of it fails
        "import numpy as np\n"
        "from pathlib import Path\n"
        "from mbdet.runtime.load import load_file\n"
        f"print(load_file(Path({str(path)!r}))(np.full((9, 9, 3), (200, 0, 0), np.uint8)).classes.sum())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "0"


def test_no_other_device_is_taken_instead(path: Path) -> None:
    with pytest.raises(InputError, match="device 'cuda': mbdet runs ncnn files on cpu alone"):
        load_file(path, "cuda")


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("hand.ncnn.param", "no such model file"),
        ("hand.ncnn.bin", r"hand\.ncnn\.bin, which has its weights, is not beside it"),
        ("hand.ncnn.param.json", r"hand\.ncnn\.param\.json, which names its classes, is not beside it"),
    ],
)
def test_a_missing_file_is_named(path: Path, missing: str, message: str) -> None:
    path.with_name(missing).unlink()
    with pytest.raises(InputError, match=rf"hand\.ncnn\.param: {message}"):
        load_file(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("hand.ncnn.param", b""),
        ("hand.ncnn.param", b"not a network"),
        ("hand.ncnn.param", LAYERS.replace("BinaryOp", "Nonsense").encode()),
        ("hand.ncnn.bin", b""),
        ("hand.ncnn.bin", bytes(12)),
    ],
)
def test_a_damaged_file(path: Path, name: str, content: bytes) -> None:
    path.with_name(name).write_bytes(content)
    with pytest.raises(InputError, match=r"hand\.ncnn\.param: ncnn cannot load it \(damaged"):
        load_file(path)


def test_an_output_that_is_not_there(path: Path) -> None:
    path.write_text(LAYERS.replace("out0", "other"))
    with pytest.raises(InputError, match=r"ncnn cannot compute logits"):
        NcnnFile(path).run(np.zeros((1, 3, 5, 7), np.uint8))
