"""OpenVINO as engine of a model file."""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbdet.errors import InputError
from mbdet.runtime.model_file import ModelFile, Values, cannot_load

try:
    import openvino
except ImportError as error:
    raise InputError("running an OpenVINO file needs openvino: pip install openvino") from error

DESCRIPTION = "mbdet"  # where among the notes of a file its description is, as JSON


class OpenVinoFile(ModelFile):
    """An OpenVINO file with its weights beside it; its description is within it.

    On the CPU it computes in single precision, apart from what is quantised: OpenVINO itself would take bfloat16 where
    the CPU has it, and so give other results on another machine.

    Args:
        path: The file; its weights are in the one beside it that ends in `.bin`.
        device: `cpu`, the default, or what else OpenVINO finds on the machine, such as `gpu`, `gpu.1` or `npu`.
        threads: CPU threads; by default one per core.

    Raises:
        InputError: If a file is missing, damaged, or was not exported by mbdet, or there is no such device.
    """

    def __init__(self, path: Path, device: str | None = None, threads: int | None = None) -> None:
        weights = path.with_suffix(".bin")
        if not path.is_file():
            raise InputError(f"{path}: no such model file")
        if not weights.is_file():
            raise InputError(f"{path}: {weights.name}, which holds its weights, is not beside it; copy both")
        core = _core()
        place = _device(core, device)
        try:
            model = core.read_model(path, weights)
        except RuntimeError as error:
            raise cannot_load(path, "OpenVINO", error) from error
        super().__init__(path, _description(model))
        precision = "f32" if place == "CPU" or self.description.get("precision") == "fp32" else "f16"
        options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        if threads is not None and place == "CPU":
            options["INFERENCE_NUM_THREADS"] = threads
        try:
            self._request = core.compile_model(model, place, options).create_infer_request()
        except RuntimeError as error:
            raise cannot_load(path, "OpenVINO", error) from error
        self._outputs = [output.any_name for output in model.outputs]

    def compute(self, images: NDArray[np.uint8]) -> Values:
        """See `ModelFile.compute`."""
        found = self._request.infer({"images": np.ascontiguousarray(images)})
        # Copies, because the next call writes into the same memory.
        return {name: np.array(found[name]) for name in self._outputs}


@functools.cache
def _core() -> openvino.Core:
    """Return what loads files: one for the process, for good.

    Each gives the thread a stack of its own for signal handlers and takes it back when it is freed. Of two, the one
    freed last puts that of the other back, which is gone, and the next signal ends the process (OpenVINO 2026.4).
    """
    return openvino.Core()


def _device(core: openvino.Core, device: str | None) -> str:
    """Return OpenVINO's name of a device."""
    name = (device or "cpu").upper()
    available = core.available_devices
    if name not in available and f"{name}.0" not in available:
        here = ", ".join(available).lower()
        raise InputError(f"device {device!r}: OpenVINO finds {here} on this machine; give one of them")
    return name


def _description(model: openvino.Model) -> dict[str, Any]:
    """Return the description within a file; of one that is not mbdet's, nothing."""
    if not model.has_rt_info([DESCRIPTION]):
        return {}
    try:
        description = json.loads(model.get_rt_info([DESCRIPTION]).astype(str))
    except ValueError:
        return {}
    return description if isinstance(description, dict) else {}
