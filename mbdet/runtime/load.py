"""From a model file to a predictor: which engine runs it, and what is made of its outputs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbdet.errors import InputError
from mbdet.runtime.image import Resizing
from mbdet.runtime.model_file import ModelFile, Values, description_beside
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

SUFFIXES = (".onnx", ".tflite", ".xml", ".mlpackage", ".param", ".pte")  # of the files that `open_file` knows


class FileDetector(DetectorPredictor):
    """A detector in a file."""

    def __init__(self, file: ModelFile) -> None:
        self.file = file
        self.input_size, self.class_names = file.input_size, file.class_names

    def predict(self, images: NDArray[np.uint8], sizes: NDArray[np.int64]) -> list[Detections]:
        """See `Predictor.predict`."""
        return _detections(self.file.run(images), self.input_size, sizes)


class FileClassifier(ClassifierPredictor):
    """A classifier in a file."""

    def __init__(self, file: ModelFile) -> None:
        self.file = file
        self.input_size, self.class_names = file.input_size, file.class_names
        self.eval_crop = file.input["central_crop"]

    def predict(self, images: NDArray[np.uint8], sizes: NDArray[np.int64]) -> list[Classification]:
        """See `Predictor.predict`."""
        probabilities = self.file.run(images)["probabilities"]
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :TOP]
        scores = np.take_along_axis(probabilities, best, axis=1)
        return [Classification(*pair) for pair in zip(scores, best, strict=True)]


class FileSegmenter(SegmenterPredictor):
    """A segmenter in a file, with scores if it was exported with probabilities."""

    def __init__(self, file: ModelFile) -> None:
        self.file = file
        self.input_size, self.class_names = file.input_size, file.class_names
        self.resizing = file.input["resize"]

    def predict(self, images: NDArray[np.uint8], sizes: NDArray[np.int64]) -> list[Segmentation]:
        """See `Predictor.predict`."""
        return _segmentations(self.file.run(images), sizes, self.resizing)


class FileMultiTask(MultiTaskPredictor):
    """Two heads on one backbone in a file, with scores of the pixels if it was exported with probabilities."""

    def __init__(self, file: ModelFile) -> None:
        self.file = file
        self.input_size, self.class_names, self.segment_names = file.input_size, file.class_names, file.segment_names

    def predict(self, images: NDArray[np.uint8], sizes: NDArray[np.int64]) -> list[MultiTaskPrediction]:
        """See `Predictor.predict`."""
        found = self.file.run(images)
        objects = _detections(found, self.input_size, sizes)
        maps = _segmentations(found, sizes, "stretch")
        return [MultiTaskPrediction(*pair) for pair in zip(objects, maps, strict=True)]


def _detections(found: Values, input_size: tuple[int, int], sizes: NDArray[np.int64]) -> list[Detections]:
    """Return the objects in the outputs of a file, without padding and in the pixels of the original images."""
    boxes, scores, labels = found["boxes"], found["scores"], found["labels"]
    return [
        Detections(to_original(boxes[i, :count], input_size, size), scores[i, :count], labels[i, :count])
        for i, (count, size) in enumerate(zip(found["counts"], sizes, strict=True))
    ]


def _segmentations(found: Values, sizes: NDArray[np.int64], resizing: Resizing) -> list[Segmentation]:
    """Return the classes in the outputs of a file for the pixels of the original images."""
    scores = found["probabilities"].max(1) if "probabilities" in found else None
    return restore_segmentations(found["classes"], scores, sizes, resizing)


# Which predictor serves a file, by its task.
PREDICTORS: dict[str, Callable[[ModelFile], Predictor[Any]]] = {
    "detection": FileDetector,
    "classification": FileClassifier,
    "segmentation": FileSegmenter,
    "multitask": FileMultiTask,
}


def is_model_file(name: str | Path) -> bool:
    """Tell by its name whether a file is one that `load_file` reads.

    A TFLite file may also hold published weights; those that mbdet exported have their description beside them.
    """
    path = Path(name)
    return path.suffix in SUFFIXES and (path.suffix != ".tflite" or description_beside(path).exists())


def find_engine(path: Path) -> Callable[[Path, str | None, int | None], ModelFile]:
    """Return what opens a model file: the engine that its suffix belongs to, which is imported only now.

    Raises:
        InputError: If the suffix is unknown or the engine is not installed.
    """
    match path.suffix:
        case ".onnx":
            from mbdet.runtime.onnx import OnnxFile

            return OnnxFile
        case ".tflite":
            from mbdet.runtime.litert import LiteRTFile

            return LiteRTFile
        case ".xml":
            from mbdet.runtime.openvino import OpenVinoFile

            return OpenVinoFile
        case ".mlpackage":
            from mbdet.runtime.coreml import CoreMLFile

            return CoreMLFile
        case ".param":
            from mbdet.runtime.ncnn import NcnnFile

            return NcnnFile
        case ".pte":
            from mbdet.runtime.executorch import ExecuTorchFile

            return ExecuTorchFile
        case suffix:
            raise InputError(f"{path}: no engine runs {suffix or 'such'} files; give one of {', '.join(SUFFIXES)}")


def open_file(path: Path, device: str | None = None, threads: int | None = None) -> ModelFile:
    """Make a file exported by mbdet ready to be run.

    Args:
        path: The file.
        device: Where to compute, by default the GPU if there is one and the engine has a use for it.
        threads: CPU threads; by default what the engine thinks best.

    Raises:
        InputError: If the file is missing, damaged, of an unknown format, or was not exported by mbdet; if its engine
            is not installed; or if there is no such device.
    """
    return find_engine(path)(path, device, threads)


def load_file(path: Path, device: str | None = None, threads: int | None = None) -> Predictor[Any]:
    """Make a file exported by mbdet ready for use.

    Args:
        path: The file.
        device: See `open_file`.
        threads: Likewise.

    Raises:
        InputError: See `open_file`; also if its task is one that this version does not know.
    """
    file = open_file(path, device, threads)
    if file.task not in PREDICTORS:
        known = ", ".join(PREDICTORS)
        raise InputError(f"{path}: is for {file.task}, but this mbdet knows {known}; install a newer one")
    return PREDICTORS[file.task](file)
