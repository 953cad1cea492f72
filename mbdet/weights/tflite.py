"""Reading the weights of a TFLite file, without running it."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mbdet.errors import InputError

IDENTIFIER = b"TFL3"  # bytes 4 to 8 of the file


def read_tflite(path: Path) -> dict[str, Tensor]:
    """Read the constants of a TFLite file in float.

    Args:
        path: The file.

    Returns:
        What has a value in the file, by name; convolutions as OHWI, depthwise ones as 1HWC. Float 16 stays as it is.

    Raises:
        InputError: If it is no TFLite file, holds weights in 8 bits, or the package that knows the format is missing.
        Exception: If it is damaged: whatever the bytes lead the parser into.
    """
    try:
        from tflite import Model, TensorType
    except ImportError as error:
        raise InputError(f"{path}: reading it needs the package tflite: pip install 'mbdet[tf]'") from error
    content = path.read_bytes()
    if content[4:8] != IDENTIFIER:
        raise InputError(f"{path}: damaged, or not a TFLite file; fetch it again")
    types = {
        TensorType.FLOAT32: np.float32,
        TensorType.FLOAT16: np.float16,
        TensorType.INT32: np.int32,
        TensorType.INT64: np.int64,
        TensorType.BOOL: np.bool_,
    }
    model = Model.GetRootAs(content)
    graph = model.Subgraphs(0)
    tensors = {}
    copies: dict[int, NDArray[np.uint8]] = {}
    total = 0
    for index in range(graph.TensorsLength()):
        tensor = graph.Tensors(index)
        buffer = tensor.Buffer()
        data = copies.get(buffer, model.Buffers(buffer).DataAsNumpy())
        if isinstance(data, int) or not len(data):  # an activation: 0 stands for no data
            continue
        name = tensor.Name().decode()
        if tensor.Type() not in types:
            if tensor.ShapeLength() < 2:
                continue
            raise InputError(f"{path}: {name} is quantised; mbdet loads the float version of such a file")
        if buffer not in copies:  # tensors may share one, as the converter writes equal constants once
            total += data.nbytes
            if total > len(content):
                raise InputError(f"{path}: damaged, holds more than its size; fetch it again")
            copies[buffer] = data = data.copy()
        shape = tensor.ShapeAsNumpy() if tensor.ShapeLength() else ()
        tensors[name] = torch.from_numpy(data.view(types[tensor.Type()]).reshape(shape))
    return tensors
