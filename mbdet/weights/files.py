"""Reading weight files without running anything in them."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from mbdet.errors import InputError

SUFFIXES = (".safetensors", ".npz", ".pt", ".pth", ".ckpt")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the named tensors of a weight file.

    Args:
        path: A safetensors file, an npz of plain arrays, a state dict or a checkpoint written by PyTorch or Lightning.

    Returns:
        The tensors by name; of a checkpoint, its `state_dict`.

    Raises:
        InputError: If the file is missing, damaged, of another kind, or would have to run code to be read.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such weight file")
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: cannot read weights from {path.suffix or 'a file without suffix'}; use {SUFFIXES}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        return state_dict_of(read_checkpoint(path), path)
    except InputError:
        raise
    except Exception as error:  # the readers raise whatever the bytes lead them into
        raise InputError(f"{path}: damaged weight file ({_first_line(error)}); fetch or write it again") from error


def read_checkpoint(path: Path) -> Mapping[str, object]:
    """Read a file written by `torch.save`, tensors and plain values only.

    Raises:
        InputError: If the file is missing or damaged, or holds objects that only code could restore.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path}: damaged, or holds more than tensors and plain values, which mbdet does not load because it could"
            " run code; write it again as a state dict or as safetensors"
        ) from error
    except Exception as error:  # likewise, of a damaged pickle
        raise InputError(f"{path}: damaged checkpoint ({_first_line(error)}); fetch or write it again") from error
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: holds a {type(content).__name__}, not a state dict or a checkpoint")
    return content


def state_dict_of(content: Mapping[str, object], path: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint or of a bare state dict.

    Raises:
        InputError: If there are none.
    """
    inner = content.get("state_dict", content)
    tensors = (
        {str(name): value for name, value in inner.items() if isinstance(value, Tensor)}
        if isinstance(inner, Mapping)
        else {}
    )
    if not tensors:
        raise InputError(f"{path}: holds no tensors by name, so it is neither a state dict nor a checkpoint")
    return tensors


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:160]
