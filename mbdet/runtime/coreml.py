"""Core ML as engine of a model file, on macOS."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mbdet.errors import InputError
from mbdet.runtime.model_file import ModelFile, Values, cannot_load, read_description


class CoreMLFile(ModelFile):
    """A Core ML package; its description is beside it.

    Written after the documentation of coremltools and not yet run: that takes a Mac.

    Args:
        path: The package.
        device: `cpu`; by default whatever Core ML thinks best, among it the GPU and the Neural Engine.
        threads: Core ML chooses for itself.

    Raises:
        InputError: If the package or its description is missing or damaged, on another system than macOS, or if the
            device is another or `threads` is given.
    """

    def __init__(self, path: Path, device: str | None = None, threads: int | None = None) -> None:
        super().__init__(path, read_description(path))
        if sys.platform != "darwin":
            raise InputError(f"{path}: Core ML runs on Apple's systems alone; export ONNX for this one")
        if device not in (None, "cpu") or threads is not None:
            raise InputError("a Core ML package runs on cpu or, with no device named, where Core ML thinks best")
        try:
            import coremltools
        except ImportError as error:
            raise InputError("running a Core ML package needs coremltools: pip install coremltools") from error
        units = coremltools.ComputeUnit.ALL if device is None else coremltools.ComputeUnit.CPU_ONLY
        try:
            self._model: Any = coremltools.models.MLModel(str(path), compute_units=units)
        except Exception as error:  # what its proxy of Apple's framework raises is not documented
            raise cannot_load(path, "Core ML", error) from error

    def compute(self, images: NDArray[np.uint8]) -> Values:
        """See `ModelFile.compute`."""
        found = self._model.predict({"images": Image.fromarray(np.ascontiguousarray(images[0].transpose(1, 2, 0)))})
        return {name: found[name] for name in self.description["output"]}
