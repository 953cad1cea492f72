"""OpenVINO files, for Intel's processors, graphics and accelerators."""

import ast
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from mbdet.errors import InputError
from mbdet.export.converting import converting
from mbdet.export.format import Format, Order, is_kept
from mbdet.export.onnx import convert

try:
    import nncf
    import onnx
    import openvino
    from openvino import opset15

    from mbdet.runtime.openvino import DESCRIPTION, OpenVinoFile
except ImportError as error:
    raise InputError(f"the OpenVINO export needs {error.name}: pip install 'mbdet[openvino]'") from error

_NETWORK = "export.network"  # where the network is in what the exporter to ONNX sees
_SCOPES = "pkg.torch.onnx.name_scopes"  # its note at each operator
_WEIGHTED = ("Convolution", "GroupConvolution", "MatMul")


class OpenVinoFormat(Format):
    """OpenVINO: an XML file of operators, with its description inside, and a file of weights beside it."""

    name = "OpenVINO"
    suffix = ".xml"
    libraries = ("openvino", "nncf", "onnx", "onnx-ir", "onnxscript")
    precisions = ("fp32", "fp16", "int8")
    nms = True
    dynamic_batch = True

    def write(self, order: Order, path: Path) -> dict[str, Any]:
        """See `Format.write`."""
        graph = convert(order)
        with converting(self.name):
            model = openvino.convert_model(io.BytesIO(graph.SerializeToString()))
            if order.precision == "int8":
                model = _quantize(model, order, _layers(graph))
            elif order.precision == "fp16":
                _halve(model)
        model.set_rt_info(json.dumps(order.describe()), [DESCRIPTION])
        openvino.save_model(model, path, compress_to_fp16=False)
        return {}

    def files(self, path: Path) -> tuple[Path, ...]:
        """See `Format.files`."""
        return path, path.with_suffix(".bin")

    def open(self, path: Path) -> OpenVinoFile:
        """See `Format.open`."""
        return OpenVinoFile(path, "cpu")


def _layers(graph: onnx.ModelProto) -> dict[str, list[str]]:
    """Return for each operator of the network, by its name, the layers around it and its weights, by theirs.

    A convolution with the batch norm after it is called by the norm's layer, and by its own weights.
    """
    layers: dict[str, list[str]] = {}
    for node in graph.graph.node:
        notes = {note.key: note.value for note in node.metadata_props}
        scopes = ast.literal_eval(notes.get(_SCOPES, "[]"))
        if _NETWORK in scopes:
            layers[node.name] = [name.removeprefix(f"{_NETWORK}.") for name in (*scopes, *node.input)]
    return layers


def _quantize(model: openvino.Model, order: Order, layers: dict[str, list[str]]) -> openvino.Model:
    """Return the network in 8 bits: weights by channel, activations by ranges learnt from the calibration images."""
    assert order.calibration is not None

    def is_float(name: str) -> bool:
        # What OpenVINO makes of one operator has its name, some with more behind a slash.
        around = layers.get(name.partition("/")[0])
        return around is None or any(is_kept(layer, order.float_layers) for layer in around)

    names = [operator.get_friendly_name() for operator in model.get_ops()]
    return nncf.quantize(
        model,
        nncf.Dataset(order.calibration, lambda image: {"images": image[None]}),
        # Activations that are never negative are ReLU's; all others get ranges that need not be symmetric.
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(order.calibration),
        # Of them, NNCF's graph lacks some, such as what has been folded.
        ignored_scope=nncf.IgnoredScope(names=[name for name in names if is_float(name)], validate=False),
    )


def _halve(model: openvino.Model) -> None:
    """Keep the weights in half precision: not the anchors too, as OpenVINO's own compression would do."""
    for operator in model.get_ops():
        weights = operator.input_value(1).get_node() if operator.get_type_name() in _WEIGHTED else None
        if weights is not None and weights.get_type_name() == "Constant":
            half = opset15.constant(weights.data.astype(np.float16))
            operator.input(1).replace_source_output(opset15.convert(half, "f32").output(0))
