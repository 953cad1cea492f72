"""TFLite files, for LiteRT, once TensorFlow Lite, on phones and small boards."""

import copy
import re
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from mbdet.backbones.blocks import ConvBNAct, SqueezeExcite
from mbdet.errors import InputError
from mbdet.export.base import Export, Form
from mbdet.export.converting import converting
from mbdet.export.format import Format, Order, is_kept
from mbdet.runtime.quiet import quiet

try:
    with quiet():
        import litert_torch
        from ai_edge_litert.interpreter import Interpreter
        from ai_edge_quantizer.algorithm_manager import AlgorithmName
        from ai_edge_quantizer.calibrator import CalibrationMode
        from ai_edge_quantizer.qtyping import TFLOperationName
        from ai_edge_quantizer.quantizer import Quantizer

    from mbdet.runtime.litert import LiteRTFile
except ImportError as error:
    raise InputError(f"the LiteRT export needs {error.name}: pip install 'mbdet[litert]'") from error

# JAX, which converts, warns of every process that is started from now on, such as those that load images; they use none
# of it.
warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)

# The name of an operator's result is made of the layers that it comes from, each as its class and the last part of its
# name. Others may follow after a semicolon, of operators that it was joined with or shares a constant with.
_OWN = "^[^;]*"
_NETWORK = f"{_OWN}_network[;/]"
_NORMALIZE = f"{_OWN}Normalize_normalize;"


class LiteRTFormat(Format):
    """TFLite: one file of LiteRT's own operators, from uint8 images with the channels last."""

    name = "LiteRT"
    suffix = ".tflite"
    libraries = ("litert-torch", "ai-edge-quantizer", "ai-edge-litert")
    precisions = ("fp32", "fp16", "int8")

    def write(self, order: Order, path: Path) -> dict[str, Any]:
        """See `Format.write`."""
        with converting(self.name):
            content = convert(order)
            if order.precision == "fp16":
                content = halve(content)
            elif order.precision == "int8":
                assert order.calibration is not None
                content = quantize(content, order.calibration, order.float_layers)
            undelegated = count_undelegated(content)
        path.write_bytes(content)
        return {"input": {**order.describe()["input"], "layout": "NHWC"}, "undelegated": undelegated}

    def open(self, path: Path) -> LiteRTFile:
        """See `Format.open`."""
        return LiteRTFile(path, "cpu")


def convert(order: Order) -> bytes:
    """Return the network and what follows it as operators of LiteRT, in single precision."""
    export = copy.deepcopy(order.export).cpu()
    _mark_float(export.network, order.float_layers)
    example = order.example().permute(0, 2, 3, 1).contiguous()
    litert_torch.config.show_progress = False
    with _ChannelsLast():
        model = litert_torch.convert(_Named(export, order.form).eval(), sample_kwargs={"images": example})
    content: bytes = model.model_content()
    return content


def halve(content: bytes) -> bytes:
    """Return a file whose weights are stored in half precision; what a device computes with is its own choice."""
    quantizer = Quantizer(content)
    quantizer.add_weight_only_config(
        ".*", TFLOperationName.ALL_SUPPORTED, 16, algorithm_key=AlgorithmName.FLOAT_CASTING
    )
    return _quantized(quantizer, None)


def quantize(content: bytes, images: NDArray[np.uint8], float_layers: Sequence[str]) -> bytes:
    """Return a file whose network computes with 8 bits: weights by channel, activations by range.

    Args:
        content: What `convert` returned for the same float layers.
        images: (N, 3, H, W) RGB to learn the ranges from.
        float_layers: See `Order`.

    Raises:
        InputError: If one of these layers is no operator of its own.
    """
    quantizer = Quantizer(content)
    every = TFLOperationName.ALL_SUPPORTED
    quantizer.add_static_config(_NETWORK, every, activation_num_bits=8, weight_num_bits=8)
    results = [tensor["name"] for tensor in Interpreter(model_content=content).get_tensor_details()]
    kept = [f"{_OWN}{_mark(number)}" for number in range(len(float_layers))]
    for layer, scope in zip(float_layers, kept, strict=True):
        if not any(re.search(scope, name) for name in results):
            raise InputError(
                f"--keep_float {layer}: LiteRT joins this layer with others, or leaves it out; name the one that holds"
                " it and them"
            )
    for scope in (_NORMALIZE, *kept):
        quantizer.update_quantization_recipe(scope, every, algorithm_key=AlgorithmName.NO_QUANTIZE)
    inputs = [{"images": np.ascontiguousarray(image[None].transpose(0, 2, 3, 1))} for image in images]
    ranges = quantizer.calibrate(
        {"serving_default": inputs},
        num_threads=torch.get_num_threads(),
        mode=CalibrationMode.CALIBRATION_PROFILER_BASED,  # the same ranges, several times as fast
    )
    return _quantized(quantizer, ranges)


def _quantized(quantizer: Any, ranges: Any) -> bytes:
    result = quantizer.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    return bytes(result.quantized_model)


def count_undelegated(content: bytes) -> dict[str, int]:
    """Return how many operators of each kind LiteRT computes by itself, outside XNNPACK, its fast engine for CPUs."""
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    operators = interpreter._get_ops_details()  # there is no public way to ask
    producers = {
        int(tensor): operator
        for operator in operators
        if operator["op_name"] != "DELEGATE"
        for tensor in operator["outputs"]
    }
    delegated = set[int]()
    for delegate in (operator for operator in operators if operator["op_name"] == "DELEGATE"):
        border = set(delegate["inputs"].tolist())
        tensors = delegate["outputs"].tolist()
        while tensors:
            tensor = tensors.pop()
            if tensor in producers and tensor not in border and producers[tensor]["index"] not in delegated:
                delegated.add(producers[tensor]["index"])
                tensors += producers[tensor]["inputs"].tolist()
    return dict(
        Counter(
            operator["op_name"]
            for operator in operators
            if operator["op_name"] != "DELEGATE" and operator["index"] not in delegated
        )
    )


class _Named(nn.Module):
    """The converter takes the names of inputs and outputs from keywords and keys."""

    def __init__(self, export: Export[Any], form: Form) -> None:
        super().__init__()
        self.export = export
        self.form = form

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        # In this order, so that the normalisation too has the channels last.
        outputs: dict[str, Tensor] = self.export(images.float().permute(0, 3, 1, 2), self.form)
        return outputs


class _ChannelsLast(TorchFunctionMode):
    """Says otherwise what the converter, which moves the channels to the end, makes slow or wrong."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is Tensor.argmax and args[0].ndim == 4 and args[1:] == (1,):
            # Over the last axis, LiteRT is some five times as fast as over any other.
            return args[0].permute(0, 2, 3, 1).argmax(3)
        if func is Tensor.expand and args[0].shape[2:] == (1, 1):
            # The converter would broadcast one value to every cell from an array whose axes it has mixed up.
            return F.interpolate(args[0], result.shape[2:], mode="bilinear", align_corners=True)
        return result


def _mark_float(network: nn.Module, float_layers: Sequence[str]) -> None:
    """Give layers that int8 leaves as they are a class whose name shows it in the names of their results."""
    layers = dict(network.named_modules())
    for number, kept in enumerate(float_layers):
        names = {name for name in layers if is_kept(name, [kept])}
        # Convolution, batch norm and activation become one operator, with the name of the last.
        holder = kept.rpartition(".")[0]
        if isinstance(layers[holder], ConvBNAct | SqueezeExcite):
            names.add(holder)
        for name in names:
            kind = type(layers[name])
            layers[name].__class__ = type(f"{_mark(number)}{kind.__name__}", (kind,), {"__module__": __name__})


def _mark(number: int) -> str:
    return f"Float{number}_"
