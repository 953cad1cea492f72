"""Reading the weights of a TF.js model: a `model.json` that describes the binary files beside it."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mbdet.errors import InputError

DTYPES = {name: np.dtype(name).newbyteorder("<") for name in ("float32", "float16", "int32", "uint16", "uint8")} | {
    "bool": np.dtype("bool")
}


def read_tfjs(path: Path) -> dict[str, Tensor]:
    """Read the weights of a graph or layers model.

    Args:
        path: Its `model.json`.

    Returns:
        The weights by name. What was quantised to 8 or 16 bits for the download comes back in float 32, as TF.js itself
        does it: value times scale plus minimum.

    Raises:
        InputError: If it is no such file, a file beside it is missing or of another size than described, or it names a
            file outside its folder or one twice.
    """
    try:
        groups = json.loads(path.read_text())["weightsManifest"]
        tensors: dict[str, Tensor] = {}
        shards = [[_shard(path, name) for name in group["paths"]] for group in groups]
        named = [shard for group in shards for shard in group]
        if len(set(named)) < len(named):
            raise InputError(f"{path}: names a weight file twice; fetch it again")
        for group, files in zip(groups, shards, strict=True):
            parts = _layout(path, group["weights"], sum(file.stat().st_size for file in files))
            content = b"".join(file.read_bytes() for file in files)
            for weight, (shape, start, end) in zip(group["weights"], parts, strict=True):
                values = np.frombuffer(content[start:end], _stored(weight)).reshape(shape)
                tensors[weight["name"]] = torch.from_numpy(_restore(values, weight))
    except InputError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: damaged, or not the model.json of a TF.js model; fetch it again") from error
    if not tensors:
        raise InputError(f"{path}: describes no weights")
    return tensors


def _layout(path: Path, weights: Sequence[Mapping[str, Any]], size: int) -> list[tuple[tuple[int, ...], int, int]]:
    """Return shape, start and end in bytes of every weight of a group, whose files have `size` bytes together."""
    parts, start = [], 0
    for weight in weights:
        shape = tuple(int(side) for side in weight["shape"])
        end = start + math.prod(shape) * _stored(weight).itemsize
        if min(shape, default=0) < 0 or end > size:
            raise InputError(f"{path}: its weight files end before {weight['name']}; fetch them again")
        parts.append((shape, start, end))
        start = end
    if start != size:
        raise InputError(f"{path}: its weight files are longer than what it describes; fetch them again")
    return parts


def _shard(path: Path, name: str) -> Path:
    shard = (path.parent / name).resolve()
    if not shard.is_relative_to(path.parent.resolve()):
        raise InputError(f"{path}: names {name}, which is not in its folder")
    if not shard.is_file():
        raise InputError(f"{path}: needs {name} beside it; fetch it too")
    return shard


def _stored(weight: Mapping[str, Any]) -> np.dtype[Any]:
    return DTYPES[weight.get("quantization", weight)["dtype"]]


def _restore(values: NDArray[Any], weight: Mapping[str, Any]) -> NDArray[Any]:
    quantization = weight.get("quantization")
    if quantization is None or "scale" not in quantization:  # float 16 has none
        return values.astype(DTYPES[weight["dtype"]].newbyteorder("="))
    return (values * np.float32(quantization["scale"]) + np.float32(quantization["min"])).astype(np.float32)
