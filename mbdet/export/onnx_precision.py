"""ONNX models with a network of fewer bits: half precision, or 8-bit integers by calibration."""

import ast
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16

from mbdet.errors import InputError
from mbdet.export.format import is_kept

_NETWORK = "export.network."  # what names of layers and weights begin with, see `Order.module`
_NORMALIZATION = "normalize"  # the layer that turns colours into what the first convolution takes
# Operators that ONNX Runtime computes with integers where what is around them is quantised too. Not Resize: it is
# mostly the last step, to the logits of every pixel.
_QUANTIZED = ("Conv", "Gemm", "MatMul", "Add", "Mul", "Clip", "Relu", "GlobalAveragePool", "AveragePool", "Concat")


def halve(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model whose network computes in half precision; what is around it stays as it is.

    A CPU without such arithmetic computes in single precision, with the rounded weights.
    """
    outside = [node.name for node in model.graph.node if not _is_inside(node)]
    half: onnx.ModelProto = convert_float_to_float16(model, keep_io_types=True, node_block_list=outside)
    return half


def quantize(model: onnx.ModelProto, images: NDArray[np.uint8], float_layers: Sequence[str]) -> onnx.ModelProto:
    """Return a model whose network computes with 8-bit integers, written as pairs of quantising operators (QDQ).

    Weights are signed, with a scale for each output channel; activations unsigned, which x86 needs to be fast, with one
    scale each, from the least and largest value on the images.

    Args:
        model: In single precision.
        images: (N, 3, H, W) RGB to learn the ranges from.
        float_layers: Names of layers of the network that stay as they are, see `Order`.
    """
    inside = [node.name for node in model.graph.node if _is_inside(node) and not is_kept(_layer(node), float_layers)]
    if not inside:  # which would mean every node to the quantiser
        raise InputError("nothing is left to quantise; keep fewer layers in float")
    with tempfile.TemporaryDirectory() as folder:
        source, prepared, target = (Path(folder) / name for name in ("source.onnx", "prepared.onnx", "target.onnx"))
        onnx.save(model, source)
        # The shapes of all values, without an optimiser that would take the names of the layers away.
        quant_pre_process(str(source), str(prepared), skip_optimization=True, skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(target),
            _Reader(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            nodes_to_quantize=inside,
            op_types_to_quantize=list(_QUANTIZED),
        )
        quantized = onnx.load(target)
    return quantized


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # untyped
    """Images one by one, as ONNX Runtime asks for them."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self._images: Iterator[NDArray[np.uint8]] = iter(images)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        image = next(self._images, None)
        return None if image is None else {"images": np.ascontiguousarray(image[None])}


def _is_inside(node: Any) -> bool:
    """Tell whether a node belongs to the network behind the normalisation."""
    layer = _layer(node)
    return bool(layer) and _NORMALIZATION not in layer.split(".")


def _layer(node: Any) -> str:
    """Return the name of the network's layer that a node comes from, or nothing.

    A convolution is known by its weights, as the batch norm that is fused into it has given it its own scope.
    """
    inputs: list[str] = list(node.input) if node.op_type in ("Conv", "Gemm") else []
    weights = [name for name in inputs if name.startswith(_NETWORK)]
    if weights:
        return weights[0].removeprefix(_NETWORK).rpartition(".")[0]
    entries: dict[str, str] = {entry.key: entry.value for entry in node.metadata_props}
    scopes: list[str] = ast.literal_eval(entries.get("pkg.torch.onnx.name_scopes", "[]"))
    layers = [scope.removeprefix(_NETWORK) for scope in scopes if scope.startswith(_NETWORK)]
    return layers[-1] if layers else ""
