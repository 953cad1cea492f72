"""How a network computes with 8-bit integers in XNNPACK: in a file for ExecuTorch, and in the training for one."""

import torch
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer
from torch import nn
from torchao.quantization.pt2e import (
    FusedMovingAvgObsFakeQuantize,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    PerChannelMinMaxObserver,
)
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationConfig, QuantizationSpec
from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY

from mbdet.backbones.base import Normalize

aten = torch.ops.aten

# No scale is less. The quantiser's own least, 2**-12, is too coarse for channels whose weights are small once a batch
# norm is folded into them; it cost SSDLite on MobileNetV2 half a point of COCO AP.
_LEAST_SCALE = 2**-12
_LEAST_WEIGHT_SCALE = 2**-20


class NetworkQuantizer(XNNPACKQuantizer):  # type: ignore[misc]  # untyped
    """Quantises a network in a traced graph, and nothing else of it.

    Args:
        root: The network's name in what was traced; nothing if that is the network.
        kept: Names of its layers that stay as they are; those below them must be there too.
        training: Whether the graph is one to train, which rounds and computes in float.
    """

    def __init__(self, root: str, kept: set[str], training: bool = False) -> None:
        super().__init__()
        self.prefix = f"{root}." if root else ""
        self.kept = kept
        self.set_global(_symmetric_by_channel(training))

    def annotate(self, model: torch.fx.GraphModule) -> torch.fx.GraphModule:
        """Say how each operation is quantised."""
        # An annotation that says nothing keeps an operation in float. A filter would not do: the quantiser asks it
        # neither of concatenations nor of what shares its scale with the operation before.
        for node in model.graph.nodes:
            if node.op == "call_function" and self._is_float(node):
                node.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(_annotated=True)
        # Of convolutions with the same weights, as the heads of a pyramid's levels are, the quantiser takes the first
        # and marks the weights as done. XNNPACK cannot load the mixture, so the marks go until all have been taken.
        parameters = [node for node in model.graph.nodes if node.op == "get_attr"]
        annotated = model
        for _ in range(max(len(node.users) for node in parameters)):
            annotated = super().annotate(annotated)
            for node in parameters:
                node.meta.pop(Q_ANNOTATION_KEY, None)
        # XNNPACK cuts a convolution's results to ReLU6's range itself, so that they need no scale for all that it cuts
        # off; of activations, the quantiser knows ReLU alone.
        for node in annotated.graph.nodes:
            if node.target == aten.hardtanh.default and len(node.args[0].users) == 1:
                before = node.args[0].meta.get(Q_ANNOTATION_KEY)
                is_convolved = node.args[0].target in (aten.conv2d.default, aten.batch_norm.default)
                if is_convolved and before is not None and before.output_qspec:
                    node.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(
                        output_qspec=before.output_qspec, _annotated=True
                    )
                    before.output_qspec = None
        return annotated

    def _is_float(self, node: torch.fx.Node) -> bool:
        """Tell whether an operation stays as it is."""
        # Maps that are joined have ranges of their own; one scale for all of them would be too coarse for most.
        if node.target == aten.cat.default:
            return True
        scopes = [scope for scope, _ in node.meta.get("nn_module_stack", {}).values()]
        layer = scopes[-1].partition("@")[0] if scopes else ""  # @ numbers the calls of a layer
        inside = f"{layer}.".startswith(self.prefix)
        return not inside or layer.removeprefix(self.prefix) in self.kept


def normalizations(network: nn.Module) -> set[str]:
    """Return the names of the layers that turn colours into what the first convolution takes: they stay as they are."""
    return {name for name, layer in network.named_modules() if isinstance(layer, Normalize)}


def rounds_weights(module: nn.Module) -> bool:
    """Tell whether a rounding module of a graph to train is for weights, whose range has 0 in its middle."""
    return getattr(module, "qscheme", None) == torch.per_channel_symmetric


def _symmetric_by_channel(training: bool) -> QuantizationConfig:
    """Return what XNNPACK computes with: symmetric weights by channel, activations with a scale for each tensor."""
    if training:
        of_activations = FusedMovingAvgObsFakeQuantize.with_args(observer=MovingAverageMinMaxObserver, eps=_LEAST_SCALE)
        # The range that they have now, as whatever quantises them later takes it, and no average of the past.
        of_weights = FusedMovingAvgObsFakeQuantize.with_args(
            observer=MovingAveragePerChannelMinMaxObserver, eps=_LEAST_WEIGHT_SCALE, averaging_constant=1.0
        )
    else:
        of_activations = MinMaxObserver.with_args(eps=_LEAST_SCALE)
        of_weights = PerChannelMinMaxObserver.with_args(eps=_LEAST_WEIGHT_SCALE)
    activations = QuantizationSpec(
        dtype=torch.int8,
        observer_or_fake_quant_ctr=of_activations,
        quant_min=-128,
        quant_max=127,
        qscheme=torch.per_tensor_affine,
    )
    weights = QuantizationSpec(
        dtype=torch.int8,
        observer_or_fake_quant_ctr=of_weights,
        quant_min=-127,
        quant_max=127,
        qscheme=torch.per_channel_symmetric,
        ch_axis=0,
    )
    return QuantizationConfig(activations, activations, weights, None, is_qat=training)
