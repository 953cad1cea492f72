"""Detection with an exported ONNX file: numpy, Pillow and ONNX Runtime, no torch."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbdet.errors import InputError
from mbdet.runtime.predictor import DetectorPredictor, to_original
from mbdet.runtime.types import Detections

try:
    import onnxruntime
except ImportError as error:
    raise InputError("running an ONNX file needs onnxruntime: pip install 'mbdet[onnx]'") from error


class OnnxPredictor(DetectorPredictor):
    """A detector exported by mbdet.

    Args:
        path: The file.
        device: `cpu`, or with onnxruntime-gpu `cuda` or `cuda:1`; by default the GPU if there is one.

    Raises:
        InputError: If the file is missing, damaged, or was not exported by mbdet as a detector, or there is no such
            device.
    """

    def __init__(self, path: Path, device: str | None = None) -> None:
        if not path.is_file():
            raise InputError(f"{path}: no such model file")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only
        providers = _providers(device)
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # ONNX Runtime has a class of its own for each kind of damage, and no common base
            reason = str(error).splitlines()[0]
            raise InputError(f"{path}: ONNX Runtime cannot load it ({reason}); export it again") from error
        metadata = self._session.get_modelmeta().custom_metadata_map
        if metadata.get("task") != "detection":
            raise InputError(f"{path}: is not a detector exported by mbdet; export one with tools/export.py")
        height, width = json.loads(metadata["input"])["size"]
        self.input_size = (height, width)
        self.class_names = tuple(json.loads(metadata["class_names"]))

    def run(self, images: NDArray[np.uint8]) -> list[Any]:
        """Run the file as it is.

        Args:
            images: (B, 3, H, W) RGB.

        Returns:
            boxes (B, D, 4) in pixels of the network input, scores (B, D), labels (B, D) and counts (B,).
        """
        return list(
            self._session.run(["boxes", "scores", "labels", "counts"], {"images": np.ascontiguousarray(images)})
        )

    def predict(self, images: NDArray[np.uint8], sizes: NDArray[np.int64]) -> list[Detections]:
        """See `Predictor.predict`."""
        boxes, scores, labels, counts = self.run(images)
        return [
            Detections(to_original(boxes[i, :count], self.input_size, size), scores[i, :count], labels[i, :count])
            for i, (count, size) in enumerate(zip(counts, sizes, strict=True))
        ]


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
