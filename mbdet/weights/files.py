"""Reading weight files without running anything in them."""

import os
import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from mbdet.errors import InputError, first_line
from mbdet.weights.tf_checkpoint import is_tf_checkpoint, read_tf_checkpoint
from mbdet.weights.tfjs import read_tfjs
from mbdet.weights.tflite import read_tflite

SUFFIXES = (".safetensors", ".npz", ".pt", ".pth", ".bin", ".tflite", ".json", ".ckpt")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the named tensors of a weight file.

    Args:
        path: A safetensors file, an npz of plain arrays, a state dict or a checkpoint written by PyTorch or Lightning,
            a TFLite file, the `model.json` of a TF.js model, or the prefix of a TF checkpoint's files.

    Returns:
        The tensors by name; of a checkpoint, its `state_dict`.

    Raises:
        InputError: If the file is missing, damaged, of another kind, or would have to run code to be read.
    """
    if is_tf_checkpoint(path):
        return read_tf_checkpoint(path)
    if not path.is_file():
        raise InputError(f"{path}: no such weight file")
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: cannot read weights from {path.suffix or 'a file without suffix'}; use {SUFFIXES}")
    try:
        match path.suffix:
            case ".safetensors":
                return load_file(path)
            case ".npz":
                with np.load(path, allow_pickle=False) as arrays:
                    return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
            case ".tflite":
                return read_tflite(path)
            case ".json":
                return read_tfjs(path)
        return state_dict_of(read_checkpoint(path), path)
    except InputError:
        raise
    except Exception as error:  # the readers raise whatever the bytes lead them into
        raise InputError(f"{path}: damaged weight file ({first_line(error)}); fetch or write it again") from error


def read_metadata(path: Path) -> dict[str, str]:
    """Return the notes in a safetensors file; other files have none.

    Raises:
        InputError: If the file is damaged.
    """
    if path.suffix != ".safetensors":
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: damaged weight file ({first_line(error)}); fetch or write it again") from error


def write_safetensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], path: Path) -> None:
    """Write a safetensors file, whole or not at all.

    Args:
        tensors: By name.
        metadata: Notes to keep in it.
        path: The file; its folder is made.

    Raises:
        InputError: If it cannot be written.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({first_line(error)})") from error
    try:
        save_file({name: value.contiguous() for name, value in tensors.items()}, temporary, dict(metadata))
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: cannot be written ({first_line(error)})") from error
    finally:
        temporary.unlink(missing_ok=True)


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
        raise InputError(f"{path}: damaged checkpoint ({first_line(error)}); fetch or write it again") from error
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
