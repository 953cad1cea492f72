"""Everything that a network costs, in one pass on the meta device."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves

from mbdet.cost.counts import count_parameters, evaluation_mode
from mbdet.cost.formulas import ConvCost
from mbdet.cost.layers import LayerCost, SeparablePair
from mbdet.cost.memory import Peak, peak_memory
from mbdet.cost.trace import Trace


class FileSize(NamedTuple):
    """Bytes of the weights for inference, batch norms folded into the convolutions before them.

    Counted are kernels and matrices, a bias for each output channel of a layer that has one or whose batch norm is
    folded, and all other parameters as they are. `int8` is one byte for each number of a kernel or matrix, a float32
    scale for each of its output channels, and 32 bits for biases and everything else. Buffers such as the anchors, the
    graph and the container's own bytes are not counted.
    """

    fp32: int
    fp16: int
    int8: int


class OperatorCost(NamedTuple):
    """All layers of one kind."""

    kind: str
    layers: int  # executions
    madds: int
    madds_share: float  # fraction of all multiply-adds
    weights: int
    weights_share: float  # fraction of all weights


@dataclass(frozen=True)
class NetworkCost:
    """What a network costs for one image of a given size.

    Multiply-adds and weights are those of convolutions, fully connected layers and matrix products alone, as in the
    MobileNet papers; biases are not counted as multiply-adds, batch norms, activations, pooling and resizing neither.

    Attributes:
        input_size: Height and width of the image.
        parameters: Learnable numbers.
        parameters_without_bn: Those without the batch norms' scales and shifts, as in the papers' detection tables.
        layers: Each execution of a layer, in order.
        pairs: Depthwise convolutions with their 1x1 convolutions.
        activations: Elements of the outputs of all `layers`, as Radosavovic et al. count them (arXiv 2003.13678).
        peak: Most elements of features that are held at once, see `peak_memory`. The image counts, once as it is given
            and once normalised; weights do not. Elements take four bytes in float32, one in int8.
        file: Bytes of the weights.
    """

    input_size: tuple[int, int]
    parameters: int
    parameters_without_bn: int
    layers: tuple[LayerCost, ...]
    pairs: tuple[SeparablePair, ...]
    activations: int
    peak: Peak
    file: FileSize

    @property
    def madds(self) -> int:
        """Multiply-adds of all layers."""
        return sum(layer.madds for layer in self.layers)

    @property
    def weights(self) -> int:
        """Weights of all layers, without biases and batch norms."""
        return sum(layer.weights for layer in self.layers)

    @property
    def separable(self) -> ConvCost:
        """What all pairs cost."""
        return sum((pair.separable for pair in self.pairs), ConvCost(0, 0))

    @property
    def standard(self) -> ConvCost:
        """What the standard convolutions cost that the pairs stand for."""
        return sum((pair.standard for pair in self.pairs), ConvCost(0, 0))

    def operators(self) -> list[OperatorCost]:
        """Sum up the layers of each kind, the most multiply-adds first (V1 paper, Table 2)."""
        rows = []
        for kind, count in Counter(layer.kind for layer in self.layers).items():
            madds = sum(layer.madds for layer in self.layers if layer.kind == kind)
            weights = sum(layer.weights for layer in self.layers if layer.kind == kind)
            shares = madds / max(1, self.madds), weights / max(1, self.weights)
            rows.append(OperatorCost(kind, count, madds, shares[0], weights, shares[1]))
        return sorted(rows, key=lambda row: row.madds, reverse=True)

    def to_json(self) -> dict[str, object]:
        """Return all figures, counts as whole numbers, sizes in bytes and shares as fractions."""
        separable, standard = self.separable, self.standard
        return {
            "input_size": list(self.input_size),
            "parameters": self.parameters,
            "parameters_without_bn": self.parameters_without_bn,
            "madds": self.madds,
            "weights": self.weights,
            "activations": self.activations,
            "peak": {**self.peak._asdict(), "fp32_bytes": 4 * self.peak.elements},
            "file_bytes": self.file._asdict(),
            "operators": [row._asdict() for row in self.operators()],
            "separable": {
                "madds": separable.madds,
                "standard_madds": standard.madds,
                "madds_ratio": separable.madds / standard.madds if self.pairs else None,
                "weights": separable.weights,
                "standard_weights": standard.weights,
                "weights_ratio": separable.weights / standard.weights if self.pairs else None,
                "pairs": [pair.to_json() for pair in self.pairs],
            },
            "layers": [{**asdict(layer), "madds_share": layer.madds / max(1, self.madds)} for layer in self.layers],
        }


def analyse(network: nn.Module, input_size: tuple[int, int]) -> NetworkCost:
    """Count everything in a forward pass of one RGB image in evaluation mode.

    Nothing is computed: the pass is made with tensors of the meta device in place of the network's own, which stay
    where and as they are. So a large input takes no longer than a small one.

    Args:
        network: On any device; takes (1, 3, H, W) float32.
        input_size: Height and width.
    """
    own = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    weights = {name: tensor.detach().to("meta") for name, tensor in own.items()}
    images = torch.empty(1, 3, *input_size, device="meta")
    with evaluation_mode(network), torch.no_grad(), Trace(weights, [images]) as trace:
        outputs = functional_call(network, weights, (images,))
    results = trace.buffers(leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor))
    return NetworkCost(
        input_size=input_size,
        parameters=count_parameters(network),
        parameters_without_bn=count_parameters(network, batch_norm=False),
        layers=tuple(trace.layers),
        pairs=tuple(SeparablePair(trace.layers[first], trace.layers[second]) for first, second in trace.pairs),
        activations=trace.activations,
        peak=peak_memory(trace.steps, trace.sizes, trace.inputs, results),
        file=_file_size(network, trace),
    )


def _file_size(network: nn.Module, trace: Trace) -> FileSize:
    calls = Counter(layer.name for layer in trace.layers)
    layers = {layer.name: layer for layer in reversed(trace.layers) if layer.weights}  # the first execution of each
    # A layer that runs more than once, on several maps say, cannot take up the several batch norms after it.
    folded = {norm: trace.layers[index].name for norm, index in trace.batch_norms}
    folded = {norm: name for norm, name in folded.items() if calls[name] == 1 and name in layers}
    biased = {name for name, layer in layers.items() if layer.biases} | set(folded.values())
    matrices = sum(layer.weights for layer in layers.values())
    channels = {name: layer.out_channels for name, layer in layers.items()}
    biases = sum(channels[name] for name in biased)
    norms = {name: module for name, module in network.named_modules() if isinstance(module, _BatchNorm)}
    others = count_parameters(network, batch_norm=False) - sum(layer.parameters for layer in layers.values())
    others += sum(count_parameters(norm) for name, norm in norms.items() if name not in folded)
    return FileSize(
        fp32=4 * (matrices + biases + others),
        fp16=2 * (matrices + biases + others),
        int8=matrices + 4 * (sum(channels.values()) + biases + others),
    )
