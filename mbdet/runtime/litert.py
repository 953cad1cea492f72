"""LiteRT, once TensorFlow Lite, as engine of a model file."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mbdet.errors import InputError
from mbdet.runtime.model_file import ModelFile, Values, cannot_load, read_description
from mbdet.runtime.quiet import quiet

try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError as error:
    raise InputError("running a TFLite file needs ai-edge-litert: pip install ai-edge-litert") from error


class LiteRTFile(ModelFile):
    """A TFLite file; its description is beside it.

    Args:
        path: The file.
        device: `cpu`, the only one there is here; phones have more.
        threads: CPU threads; by default one.

    Raises:
        InputError: If the file or its description is missing or damaged, or there is no such device.
    """

    def __init__(self, path: Path, device: str | None = None, threads: int | None = None) -> None:
        if device not in (None, "cpu"):
            raise InputError(f"device {device!r}: a TFLite file runs on cpu here")
        super().__init__(path, read_description(path))
        with quiet():  # it announces its engine
            try:
                self._interpreter = Interpreter(str(path), num_threads=threads)
                self._interpreter.allocate_tensors()
                self._runner = self._interpreter.get_signature_runner()
            except (ValueError, RuntimeError) as error:  # what damage raises
                raise cannot_load(path, "LiteRT", error) from error

    def compute(self, images: NDArray[np.uint8]) -> Values:
        """See `ModelFile.compute`."""
        found: Values = self._runner(images=np.ascontiguousarray(images.transpose(0, 2, 3, 1)))
        return found
