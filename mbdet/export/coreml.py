"""Core ML packages, for Apple's devices."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import fx

from mbdet.errors import InputError
from mbdet.export.converting import converting
from mbdet.export.format import Format, Order, is_kept
from mbdet.runtime.model_file import ModelFile
from mbdet.runtime.quiet import quiet

try:
    with quiet():  # it names each library of a newer version than it was tested with
        import coremltools as ct
        from coremltools.optimize import coreml as compression
except ImportError as error:
    raise InputError(f"the Core ML export needs {error.name}: pip install 'mbdet[coreml]'") from error

_NETWORK = "export.network."  # where the network is in what is traced
_WEIGHTED = ("conv", "linear", "matmul")
# What the description says of the numbers within.
_ARITHMETIC = {
    "fp32": "single precision",
    "fp16": "half precision in the network, single precision after it",
    "int8": "weights in 8 bits; activations in half precision in the network, single precision after it",
}


class CoreMLFormat(Format):
    """Core ML: an ML program in a package, which is a folder, with its description inside.

    It takes images, as Vision and cameras give them, and no tensor. Its `int8` is of the weights alone: the
    calibration images are not used.
    """

    name = "Core ML"
    suffix = ".mlpackage"
    libraries = ("coremltools",)
    precisions = ("fp32", "fp16", "int8")
    calibrated = False

    def write(self, order: Order, path: Path) -> dict[str, Any]:
        """See `Format.write`."""
        description = order.describe()
        types = order.output_types
        whole = {
            name: {**of, "dtype": "int32"} for name, of in types.items() if "int" in of["dtype"]
        }  # the only ones it has
        differing = {
            "output_types": types | whole,
            "input": {**description["input"], "layout": "image", "dtype": "8 bits per channel"},
            "arithmetic": _ARITHMETIC[order.precision],
        }
        with converting(self.name):
            program = trace(order)
            package = _convert(program, order)
            if order.precision == "int8":
                package = _round_weights(package, _layers(program), order.float_layers)
        with quiet():
            package.short_description = f"{order.export.task} of {len(order.class_names)} classes"
            package.input_description["images"] = f"RGB, {description['input']['size']} pixels (height, width)"
            for name, text in order.export.outputs(order.form).items():
                package.output_description[name] = text
            package.user_defined_metadata["mbdet"] = json.dumps(description | differing)
            package.save(str(path))
        return differing

    def open(self, path: Path) -> ModelFile | None:
        """See `Format.open`: Core ML runs on macOS alone."""
        if sys.platform != "darwin":
            return None
        from mbdet.runtime.coreml import CoreMLFile

        return CoreMLFile(path, "cpu")


def trace(order: Order) -> torch.export.ExportedProgram:
    """Return the network and what follows it as operators of PyTorch, which Core ML's converter reads."""
    # Pictures come with their channels last in memory, an order that Core ML's converter refuses.
    example = order.example(torch.float32).contiguous().to(next(order.export.parameters()).device)
    program: torch.export.ExportedProgram = torch.export.export(order.module, (example,)).run_decompositions({})
    return program


def _convert(program: torch.export.ExportedProgram, order: Order) -> Any:
    """Return the program as Core ML's."""
    height, width = order.export.network.input_size
    values = [node.meta["val"] for node in program.graph.output_node().args[0]]
    kinds = [np.float32 if value.is_floating_point() else np.int32 for value in values]
    half = ct.transform.FP16ComputePrecision(op_selector=_precedes_weights())
    return ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=ct.target.iOS16,
        inputs=[ct.ImageType(name="images", shape=(1, 3, height, width), color_layout=ct.colorlayout.RGB)],
        # Otherwise it would round what is in single precision to half at the end.
        outputs=[ct.TensorType(name=name, dtype=kind) for name, kind in zip(order.outputs, kinds, strict=True)],
        compute_precision=ct.precision.FLOAT32 if order.precision == "fp32" else half,
        skip_model_load=True,
    )


def _precedes_weights() -> Callable[[Any], bool]:
    """Return a test whether an operator has weights or leads to one that has; what does not is decoding.

    Decoding must stay in single precision, because half of it tells coordinates beyond 512 apart by half a pixel.
    """
    known: dict[str, bool] = {}

    def precedes(operator: Any) -> bool:
        if operator.name not in known:
            followers = [follower for output in operator.outputs for follower in output.child_ops]
            known[operator.name] = operator.op_type in _WEIGHTED or any(precedes(follower) for follower in followers)
        return known[operator.name]

    return precedes


def _layers(program: torch.export.ExportedProgram) -> dict[str, list[str]]:
    """Return for each operator, by its name, the layer of the network that it is, by its.

    A convolution with the batch norm after it is called by the norm's name, and is both layers.
    """

    def layer(node: fx.Node) -> str:
        stack = node.meta.get("nn_module_stack")
        return str([*stack.values()][-1][0]).removeprefix(_NETWORK) if stack else ""

    layers: dict[str, list[str]] = {}
    for node in program.graph.nodes:
        layers[node.name] = [layer(node)]
        if "batch_norm" in str(node.target):
            layers[node.name].append(layer(node.args[0]))
    return layers


def _round_weights(package: Any, layers: dict[str, list[str]], float_layers: Sequence[str]) -> Any:
    """Return the package with the large weights of all other layers in 8 bits, scaled by channel."""
    config = compression.OpLinearQuantizerConfig(mode="linear_symmetric", dtype="int8", granularity="per_channel")
    rounded = {}
    for name, weights in compression.get_weights_metadata(package, weight_threshold=config.weight_threshold).items():
        users = [user for user in weights.child_ops if user.op_type in _WEIGHTED]
        around = [layer for user in users for layer in layers.get(user.name.removesuffix("_cast_fp16"), [])]
        if users and not any(is_kept(layer, float_layers) for layer in around):
            rounded[name] = config
    return compression.linear_quantize_weights(package, compression.OptimizationConfig(op_name_configs=rounded))
