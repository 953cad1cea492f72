"""ExecuTorch files, for PyTorch's own runtime on phones and small boards, whose convolutions XNNPACK computes."""

import copy
import json
import operator
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from mbdet.errors import InputError
from mbdet.export.converting import converting
from mbdet.export.format import Format, Order, is_kept
from mbdet.models import Detector
from mbdet.runtime.quiet import quiet

try:
    from mbdet.runtime.executorch import DESCRIPTION, ExecuTorchFile

    with quiet():
        from executorch.backends.transforms.utils import create_constant_placeholder
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower
        from executorch.exir.delegate import executorch_call_delegate
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    from mbdet.export.xnnpack_quantizer import NetworkQuantizer, normalizations
except ImportError as error:
    raise InputError(f"the ExecuTorch export needs {error.name}: pip install 'mbdet[executorch]'") from error

_NETWORK = "export.network"  # where the network is in what is traced


class ExecuTorchFormat(Format):
    """ExecuTorch: one file, with its description inside.

    In half precision the network computes with 16 bits, but XNNPACK takes the weights of convolutions in 32 alone, so
    that the file is as large as one in single precision.
    """

    name = "ExecuTorch"
    suffix = ".pte"
    libraries = ("executorch", "torchao")
    precisions = ("fp32", "fp16", "int8")

    def write(self, order: Order, path: Path) -> dict[str, Any]:
        """See `Format.write`."""
        with converting(self.name):
            content, undelegated = lower(trace(order), order.describe())
        path.write_bytes(content)
        return {"undelegated": undelegated}

    def open(self, path: Path) -> ExecuTorchFile:
        """See `Format.open`."""
        return ExecuTorchFile(path, "cpu")


def trace(order: Order) -> ExportedProgram:
    """Return the network and what follows it as operators of PyTorch, in the order's precision.

    Raises:
        InputError: If int8 has nothing left to quantise.
    """
    # A copy of its own: XNNPACK moves the channels itself, and takes no weights that have been moved already.
    module = copy.deepcopy(order.module).cpu().to(memory_format=torch.contiguous_format)
    if order.precision == "fp16":
        halve(module)
    example = (order.example().contiguous(),)  # calibration images may have their channels last in memory
    with torch.no_grad():
        program = torch.export.export(module, example)
        unshare(program)
        if order.precision == "int8":
            assert order.calibration is not None
            quantized = quantize(program, module, order.calibration, order.float_layers)
            program = torch.export.export(quantized, example)
    return program


def unshare(program: ExportedProgram) -> None:
    """Give convolutions that share weights with others their own where they need them, in place.

    The levels of a pyramid share them. Both XNNPACK and the quantiser fold the norms into the weights, and round biases
    by the scale of what comes in: XNNPACK would take what it makes of them for the first level for the others too, and
    say nothing of it.
    """
    for node in [*program.graph.nodes]:
        parameter = program.graph_signature.inputs_to_parameters.get(node.name) if node.op == "placeholder" else None
        if parameter is None:
            continue
        users = [user for user in node.users if _is_folded(user) or _is_bias(node, user)]
        for user in users if len(node.users) > 1 else ():
            values = program.state_dict[parameter].detach().clone()
            with program.graph.inserting_before(node):
                own = create_constant_placeholder(
                    program, program.graph, f"{node.name}_of_{user.name}", InputKind.PARAMETER, values
                )
            user.replace_input_with(node, own)


def _is_folded(convolution: torch.fx.Node) -> bool:
    """Tell whether a batch norm follows."""
    return any("batch_norm" in str(after.target) for after in convolution.users)


def _is_bias(parameter: torch.fx.Node, user: torch.fx.Node) -> bool:
    """Tell whether a convolution adds a parameter."""
    return "conv" in str(user.target) and parameter in user.args[2:3]


def halve(module: nn.Module) -> None:
    """Let a network compute in half precision, in place; but boxes, in pixels, need more digits than it has."""
    anchors = [(part, part.anchors) for part in module.modules() if isinstance(part, Detector)]
    module.half()
    for part, values in anchors:
        part.anchors = values


def quantize(
    program: ExportedProgram, module: nn.Module, images: NDArray[np.uint8], float_layers: Sequence[str]
) -> nn.Module:
    """Return a program that computes the network with 8-bit integers: weights by channel, activations by range.

    Args:
        program: In single precision, see `Order.module`.
        module: What it was traced from.
        images: (N, 3, H, W) RGB to learn the ranges from.
        float_layers: Names of layers of the network that stay as they are, see `Order`.

    Raises:
        InputError: If nothing is left to quantise.
    """
    network = module.get_submodule(_NETWORK)
    kept = {name for name, _ in network.named_modules() if is_kept(name, float_layers)} | normalizations(network)
    observed = prepare_pt2e(program.module(), NetworkQuantizer(_NETWORK, kept))
    for image in images:
        observed(torch.from_numpy(image[None].copy()))
    quantized: torch.fx.GraphModule = convert_pt2e(observed)
    if not any("quantize_per_tensor" in str(node.target) for node in quantized.graph.nodes):
        raise InputError("nothing is left to quantise; keep fewer layers in float")
    return quantized


def _hardsigmoid(x: Tensor) -> Tensor:
    """Say a gate of MobileNetV3 in operators of XNNPACK; PyTorch's own way has conversions of types, which it lacks."""
    return (x + 3).clamp(0, 6) / 6


def lower(program: ExportedProgram, description: dict[str, Any]) -> tuple[bytes, dict[str, int]]:
    """Hand to XNNPACK, ExecuTorch's fast engine, what it can compute.

    Returns:
        The content of the file, and how many operators of each kind ExecuTorch computes by itself.
    """
    methods = {DESCRIPTION: json.dumps(description)}
    program = program.run_decompositions({torch.ops.aten.hardsigmoid.default: _hardsigmoid})
    edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()], constant_methods=methods)
    # Before it is written, which adds what is none of the network's.
    calls = [node.target for node in edge.exported_program().graph.nodes if node.op == "call_function"]
    content: bytes = edge.to_executorch().buffer
    inside = (executorch_call_delegate, operator.getitem)
    return content, dict(Counter(call.name() for call in calls if call not in inside))
