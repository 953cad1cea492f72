"""ONNX Runtime as engine of a model file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbdet.errors import InputError
from mbdet.runtime.model_file import ModelFile, Values, cannot_load

try:
    import onnxruntime
except ImportError as error:
    raise InputError("running an ONNX file needs onnxruntime: pip install onnxruntime") from error


class OnnxFile(ModelFile):
    """An ONNX file; its description is within it.

    Args:
        path: The file.
        device: `cpu`, or with onnxruntime-gpu `cuda` or `cuda:1`; by default the GPU if there is one.
        threads: CPU threads; by default one per core.

    Raises:
        InputError: If the file is missing, damaged, or was not exported by mbdet, or there is no such device.
    """

    def __init__(self, path: Path, device: str | None = None, threads: int | None = None) -> None:
        if not path.is_file():
            raise InputError(f"{path}: no such model file")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only
        options.intra_op_num_threads = threads or 0
        # Threads may wait busily for more work during a run, but not after it: they would slow down whatever the
        # program does with the results, or another engine.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        providers = _providers(device)
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # ONNX Runtime has a class of its own for each kind of damage, and no common base
            raise cannot_load(path, "ONNX Runtime", error) from error
        super().__init__(path, _decode(self._session.get_modelmeta().custom_metadata_map))
        self._outputs = [output.name for output in self._session.get_outputs()]

    def compute(self, images: NDArray[np.uint8]) -> Values:
        """See `ModelFile.compute`."""
        values = self._session.run(self._outputs, {"images": np.ascontiguousarray(images)})
        return dict(zip(self._outputs, values, strict=True))


def _decode(metadata: dict[str, str]) -> dict[str, Any]:
    """Return a description from the strings that ONNX holds it as: text as it is, all else as JSON."""
    description: dict[str, Any] = {}
    for name, text in metadata.items():
        try:
            description[name] = json.loads(text)
        except ValueError:
            description[name] = text
    return description


def _providers(device: str | None) -> list[Any]:
    """Return what ONNX Runtime should compute with, by preference.

    No other provider: TensorRT would build engines for minutes, Core ML rounds to half precision.
    """
    kind, _, number = (device or "cuda").partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise InputError(f"device {device!r}: an ONNX file runs on cpu, or on cuda or cuda:N with onnxruntime-gpu")
    has_gpu = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if device is not None and kind == "cuda" and not has_gpu:
        raise InputError(f"device {device!r}: this ONNX Runtime computes on the CPU alone; install onnxruntime-gpu")
    gpu = [("CUDAExecutionProvider", {"device_id": int(number or 0)})] if kind == "cuda" and has_gpu else []
    return [*gpu, "CPUExecutionProvider"]
