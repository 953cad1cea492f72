"""Prediction with an exported ONNX file: numpy, Pillow and ONNX Runtime, no torch."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbdet.errors import InputError
from mbdet.runtime.image import Resizing
from mbdet.runtime.multitask import MultiTaskPredictor
from mbdet.runtime.predictor import (
    TOP,
    ClassifierPredictor,
    DetectorPredictor,
    Predictor,
    SegmenterPredictor,
    restore_segmentations,
    to_original,
)
from mbdet.runtime.types import Classification, Detections, MultiTaskPrediction, Segmentation

try:
    import onnxruntime
except ImportError as error:
    raise InputError("running an ONNX file needs onnxruntime: pip install 'mbdet[onnx]'") from error


class OnnxFile:
    """A file exported by mbdet, ready to be run.

    Args:
        path: The file.
        device: `cpu`, or with onnxruntime-gpu `cuda` or `cuda:1`; by default the GPU if there is one.

    Attributes:
        task: What it does: detection, segmentation, ...
        class_names: The K names, in the order of the labels.
        segment_names: Of a multitask network, the names of the pixels' classes.
        input: What its metadata says about the input.
        input_size: Height and width of the images that it takes.

    Raises:
        InputError: If the file is missing, damaged, or was not exported by mbdet, or there is no such device.
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
        try:
            self.task: str = metadata["task"]
            self.class_names: tuple[str, ...] = tuple(json.loads(metadata["class_names"]))
            self.segment_names: tuple[str, ...] = tuple(json.loads(metadata.get("segment_names", "[]")))
            self.input: dict[str, Any] = json.loads(metadata["input"])
            height, width = self.input["size"]
        except (KeyError, ValueError):
            raise InputError(f"{path}: was not exported by mbdet; export a model with tools/export.py") from None
        self.input_size = (height, width)
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, images: NDArray[np.uint8]) -> dict[str, Any]:
        """Run it.

        Args:
            images: (B, 3, H, W) RGB.

        Returns:
            Its outputs by name, each with B rows; its metadata says what they are.
        """
        values = self._session.run(self._outputs, {"images": np.ascontiguousarray(images)})
        return dict(zip(self._outputs, values, strict=True))


class OnnxDetector(DetectorPredictor):
    """A detector in a file."""

    def __init__(self, file: OnnxFile) -> None:
        self.file = file
        self.input_size, self.class_names = file.input_size, file.class_names

    def predict(self, images: NDArray[np.uint8], sizes: NDArray[np.int64]) -> list[Detections]:
        """See `Predictor.predict`."""
        return _detections(self.file.run(images), self.input_size, sizes)


class OnnxClassifier(ClassifierPredictor):
    """A classifier in a file."""

    def __init__(self, file: OnnxFile) -> None:
        self.file = file
        self.input_size, self.class_names = file.input_size, file.class_names
        self.eval_crop = file.input["central_crop"]

    def predict(self, images: NDArray[np.uint8], sizes: NDArray[np.int64]) -> list[Classification]:
        """See `Predictor.predict`."""
        probabilities = self.file.run(images)["probabilities"]
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :TOP]
        scores = np.take_along_axis(probabilities, best, axis=1)
        return [Classification(*pair) for pair in zip(scores, best, strict=True)]


class OnnxSegmenter(SegmenterPredictor):
    """A segmenter in a file, with scores if it was exported with probabilities."""

    def __init__(self, file: OnnxFile) -> None:
        self.file = file
        self.input_size, self.class_names = file.input_size, file.class_names
        self.resizing = file.input["resize"]

    def predict(self, images: NDArray[np.uint8], sizes: NDArray[np.int64]) -> list[Segmentation]:
        """See `Predictor.predict`."""
        return _segmentations(self.file.run(images), sizes, self.resizing)


class OnnxMultiTask(MultiTaskPredictor):
    """Two heads on one backbone in a file, with scores of the pixels if it was exported with probabilities."""

    def __init__(self, file: OnnxFile) -> None:
        self.file = file
        self.input_size, self.class_names, self.segment_names = file.input_size, file.class_names, file.segment_names

    def predict(self, images: NDArray[np.uint8], sizes: NDArray[np.int64]) -> list[MultiTaskPrediction]:
        """See `Predictor.predict`."""
        found = self.file.run(images)
        objects = _detections(found, self.input_size, sizes)
        maps = _segmentations(found, sizes, "stretch")
        return [MultiTaskPrediction(*pair) for pair in zip(objects, maps, strict=True)]


def _detections(found: dict[str, Any], input_size: tuple[int, int], sizes: NDArray[np.int64]) -> list[Detections]:
    """Return the objects in the outputs of a file, without padding and in the pixels of the original images."""
    boxes, scores, labels = found["boxes"], found["scores"], found["labels"]
    return [
        Detections(to_original(boxes[i, :count], input_size, size), scores[i, :count], labels[i, :count])
        for i, (count, size) in enumerate(zip(found["counts"], sizes, strict=True))
    ]


def _segmentations(found: dict[str, Any], sizes: NDArray[np.int64], resizing: Resizing) -> list[Segmentation]:
    """Return the classes in the outputs of a file for the pixels of the original images."""
    scores = found["probabilities"].max(1) if "probabilities" in found else None
    return restore_segmentations(found["classes"], scores, sizes, resizing)


# Which predictor serves a file, by its task.
PREDICTORS: dict[str, Callable[[OnnxFile], Predictor[Any]]] = {
    "detection": OnnxDetector,
    "classification": OnnxClassifier,
    "segmentation": OnnxSegmenter,
    "multitask": OnnxMultiTask,
}


def load_onnx(path: Path, device: str | None = None) -> Predictor[Any]:
    """Make a file exported by mbdet ready for use.

    Args:
        path: The file.
        device: See `OnnxFile`.

    Raises:
        InputError: See `OnnxFile`; also if its task is one that this version does not know.
    """
    file = OnnxFile(path, device)
    if file.task not in PREDICTORS:
        known = ", ".join(PREDICTORS)
        raise InputError(f"{path}: is for {file.task}, but this mbdet knows {known}; install a newer one")
    return PREDICTORS[file.task](file)


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
