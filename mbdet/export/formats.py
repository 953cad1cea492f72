"""The formats by name; each needs libraries of its own, so it is imported when it is asked for."""

from mbdet.errors import InputError
from mbdet.export.format import Format

NAMES = ("onnx", "openvino", "executorch", "litert", "ncnn", "coreml")


def find_format(name: str) -> Format:
    """Return a format.

    Args:
        name: One of `NAMES`.

    Raises:
        InputError: If there is none of this name, or its libraries are not installed; it names the extra.
    """
    match name:
        case "onnx":
            from mbdet.export.onnx import OnnxFormat

            return OnnxFormat()
        case "litert":
            from mbdet.export.litert import LiteRTFormat

            return LiteRTFormat()
        case "openvino":
            from mbdet.export.openvino import OpenVinoFormat

            return OpenVinoFormat()
        case "coreml":
            from mbdet.export.coreml import CoreMLFormat

            return CoreMLFormat()
        case "ncnn":
            from mbdet.export.ncnn import NcnnFormat

            return NcnnFormat()
        case "executorch":
            from mbdet.export.executorch import ExecuTorchFormat

            return ExecuTorchFormat()
        case _:
            raise InputError(f"no format is called {name!r}; there are {', '.join(NAMES)}")
