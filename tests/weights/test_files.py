"""Weight files of every kind, whole, damaged and hostile."""

import random
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mbdet.errors import InputError
from mbdet.weights.files import SUFFIXES, read_checkpoint, read_tensors

Save = Callable[[dict[str, Tensor], str], Path]
TENSORS = {"a.weight": torch.arange(20.0).view(4, 5), "b": torch.tensor([1, 2, 3]), "scalar": torch.tensor(7)}


class Payload:
    """An object that creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.marker), "w")


def write_legacy(path: Path) -> None:
    torch.save(TENSORS, path, _use_new_zipfile_serialization=False)


def write_compressed(path: Path) -> None:
    np.savez_compressed(path, **{name: value.numpy() for name, value in TENSORS.items()})


@pytest.fixture(params=["w.safetensors", "w.npz", "w.pt", "w.ckpt", "legacy.pth", "compressed.npz"])
def weight_file(request: pytest.FixtureRequest, save: Save, tmp_path: Path) -> Path:
    path = tmp_path / request.param
    if path.stem == "w":
        return save(TENSORS, request.param)
    (write_legacy if path.suffix == ".pth" else write_compressed)(path)
    return path


def test_whole_files(weight_file: Path) -> None:
    tensors = {name.removeprefix("network."): value for name, value in read_tensors(weight_file).items()}
    torch.testing.assert_close(tensors, TENSORS)


def test_truncated_files_are_refused(weight_file: Path) -> None:
    content = weight_file.read_bytes()
    for length in sorted({0, 1, 2, 20, 100, len(content) // 2, len(content) - 30}):
        weight_file.write_bytes(content[:length])
        with pytest.raises(InputError, match=rf"{weight_file.name}: .*damaged") as caught:
            read_tensors(weight_file)
        assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")
def test_flipped_bits_give_tensors_or_an_input_error(weight_file: Path) -> None:
    content = weight_file.read_bytes()
    generator = random.Random(0)
    for _ in range(150):
        damaged = bytearray(content)
        damaged[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        weight_file.write_bytes(damaged)
        with suppress(InputError):
            assert all(isinstance(value, Tensor) for value in read_tensors(weight_file).values())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_of_another_kind_are_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"page{suffix}"
    path.write_text("<html>404</html>")
    with pytest.raises(InputError, match=rf"page\{suffix}: "):
        read_tensors(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_missing_files(suffix: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"gone\{suffix}: no such"):
        read_tensors(tmp_path / f"gone{suffix}")
    with pytest.raises(InputError, match=rf"gone\{suffix}: no such"):
        read_checkpoint(tmp_path / f"gone{suffix}")


@pytest.mark.parametrize("name", ["weights.onnx", "weights"])
def test_unknown_suffixes_name_the_known_ones(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=rf"{name}: .*\.safetensors.*\.ckpt"):
        read_tensors(tmp_path / name)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt"])
@pytest.mark.parametrize("wrap", [lambda bad: bad, lambda bad: {"state_dict": TENSORS, "hyper_parameters": bad}])
@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_pickle_does_not_run(
    suffix: str, wrap: Callable[[object], object], legacy: bool, tmp_path: Path
) -> None:
    path, marker = tmp_path / f"w{suffix}", tmp_path / "ran"
    torch.save(wrap(Payload(marker)), path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(InputError, match=r"could run code; write it again"):
        read_tensors(path)
    assert not marker.exists()
    torch.load(path, weights_only=False)  # what the marker would have shown
    assert marker.exists()


def test_code_in_an_npz_does_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    np.savez(tmp_path / "w.npz", weight=np.array([Payload(marker)], dtype=object))
    with pytest.raises(InputError, match=r"w\.npz: .*Object arrays"):
        read_tensors(tmp_path / "w.npz")
    assert not marker.exists()


def test_an_npz_of_text_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", names=np.array(["person", "car"]))
    with pytest.raises(InputError, match=r"w\.npz: "):
        read_tensors(tmp_path / "w.npz")


def test_a_zip_of_something_else_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("readme.txt", "no arrays here")
    with pytest.raises(InputError, match=r"w\.npz: "):
        read_tensors(tmp_path / "w.npz")


def test_a_single_array_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "w.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(InputError, match=r"w\.npz: "):
        read_tensors(tmp_path / "w.npz")


@pytest.mark.parametrize("content", [[torch.zeros(1)], torch.zeros(1), 7, {}, {"epoch": 3}, {"state_dict": {"a": 1}}])
def test_pickles_without_named_tensors_are_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(InputError, match=r"w\.pt: holds (no tensors|a \w+, not)"):
        read_tensors(tmp_path / "w.pt")
