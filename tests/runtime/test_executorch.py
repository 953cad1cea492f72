import gc
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("executorch")

from executorch.exir import to_edge_transform_and_lower
from executorch.extension.pybindings.portable_lib import _threadpool_get_thread_count

from mbdet.errors import InputError
from mbdet.runtime.executorch import ExecuTorchFile
from mbdet.runtime.load import load_file, open_file

DESCRIBED = {
    "task": "segmentation",
    "class_names": ["red", "green", "blue"],
    "input": {"size": [20, 30], "resize": "fit", "batch": 1},
    "output": {"classes": ""},
}


class Brightest(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor]:
        return (images.argmax(1).to(torch.uint8),)


def brightest_colour(path: Path, description: object = DESCRIBED) -> Path:
    """Write a segmenter of 20x30 pixels whose classes are the colours."""
    program = torch.export.export(Brightest(), (torch.zeros(1, 3, 20, 30, dtype=torch.uint8),))
    methods = None if description is None else {"description": description}
    path.write_bytes(to_edge_transform_and_lower(program, constant_methods=methods).to_executorch().buffer)
    return path


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return brightest_colour(tmp_path_factory.mktemp("files") / "m.pte", json.dumps(DESCRIBED))


def test_a_segmenter_gives_the_classes_of_the_picture(colours: Path) -> None:
    segmenter = load_file(colours)
    assert segmenter.class_names == ("red", "green", "blue")
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:20, :, 1], picture[20:, :, 2] = 64, 128
    found = segmenter(picture)
    assert [np.unique(part).tolist() for part in (found.classes[:18], found.classes[22:])] == [[1], [2]]


def test_results_outlive_the_next_call(colours: Path) -> None:
    """And images may lie in memory as they like."""
    file = open_file(colours)
    images = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), dtype=np.uint8).transpose(0, 3, 1, 2)
    alone = [file.compute(images[index : index + 1])["classes"] for index in range(3)]
    np.testing.assert_array_equal(np.concatenate(alone), images.argmax(1))
    np.testing.assert_array_equal(file.run(images)["classes"], images.argmax(1))


def test_open_files_keep_their_threads(colours: Path) -> None:
    """ExecuTorch would free them under an open file, whose next call would then read freed memory."""
    gc.collect()
    first = ExecuTorchFile(colours, threads=2)
    assert _threadpool_get_thread_count() == 2
    with pytest.raises(InputError, match=r"m\.pte: cannot compute with 1 threads while another .* open with 2"):
        ExecuTorchFile(colours, threads=1)
    assert ExecuTorchFile(colours, threads=2).class_names == ExecuTorchFile(colours).class_names
    del first
    gc.collect()
    ExecuTorchFile(colours, threads=1)
    assert _threadpool_get_thread_count() == 1


@pytest.mark.parametrize("device", ["cuda", "gpu", "cpu:1"])
def test_no_other_device_is_taken_instead(colours: Path, device: str) -> None:
    with pytest.raises(InputError, match=f"device '{device}': an ExecuTorch file runs on cpu here"):
        load_file(colours, device)


def test_missing_file() -> None:
    with pytest.raises(InputError, match=r"nothing\.pte: no such model file"):
        load_file(Path("nothing.pte"))


def test_nothing_but_the_error_is_heard(colours: Path, tmp_path: Path) -> None:
    """In a process of its own, as it is the first file that ExecuTorch speaks of."""
    (tmp_path / "bad.pte").write_bytes(b"not a model")
    code = (
        "import sys; from pathlib import Path\n"
        "from mbdet.errors import InputError\n"
        "from mbdet.runtime.load import load_file\n"
        "load_file(Path(sys.argv[1]))\n"
        "try: load_file(Path(sys.argv[2]))\n"
        "except InputError as error: print(error)"
    )
    command = [sys.executable, "-c", code, str(colours), str(tmp_path / "bad.pte")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "bad.pte: ExecuTorch cannot load it" in done.stdout


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x0a" * 50])
def test_damaged_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.pte"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.pte: ExecuTorch cannot load it \(Failed to load program"):
        load_file(path)


def test_a_file_cut_short(colours: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.pte"
    path.write_bytes(colours.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"cut\.pte: ExecuTorch cannot load it"):
        load_file(path)


@pytest.mark.parametrize("description", [None, 1, "not JSON"])
def test_a_model_of_another_kind(tmp_path: Path, description: object) -> None:
    with pytest.raises(InputError, match=r"other\.pte: was not exported by mbdet"):
        load_file(brightest_colour(tmp_path / "other.pte", description))


@pytest.mark.parametrize("missing", ["torch", "executorch.runtime"])
def test_a_missing_library_is_named(colours: Path, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, "mbdet.runtime.executorch")
    with pytest.raises(InputError, match=rf"in Python needs {missing}: pip install 'mbdet\[executorch\]'"):
        load_file(colours)
