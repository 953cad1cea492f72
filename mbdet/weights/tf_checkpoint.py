"""Reading a TensorFlow checkpoint, for those who have TensorFlow."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mbdet.errors import InputError, first_line


def is_tf_checkpoint(path: Path) -> bool:
    """Tell whether a path is the prefix of a checkpoint's files, such as `model.ckpt` of `model.ckpt.index`."""
    return not path.is_file() and Path(f"{path}.index").is_file()


def read_tf_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read the variables of a checkpoint.

    Args:
        path: The prefix of its files.

    Returns:
        All numeric variables by name.

    Raises:
        InputError: If TensorFlow is not installed, or cannot read the files.
    """
    try:
        import tensorflow as tf
    except ImportError as error:
        raise InputError(
            f"{path}: reading a TF checkpoint needs TensorFlow: pip install tensorflow; or give the .tflite file beside"
            " it, which does not"
        ) from error
    try:
        reader = tf.train.load_checkpoint(str(path))
        # A scalar comes as a number.
        arrays = {name: np.asarray(reader.get_tensor(name)) for name in reader.get_variable_to_shape_map()}
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        raise InputError(f"{path}: damaged TF checkpoint ({first_line(error)}); fetch it again") from error
    return {name: torch.from_numpy(array) for name, array in arrays.items() if array.dtype.kind in "fiub"}
