"""Records what a forward pass does, on tensors without data."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from mbdet.cost.layers import Kind, LayerCost
from mbdet.cost.memory import Step

aten = torch.ops.aten
# Elementwise too, though they do not carry the tag.
_ELEMENTWISE = (
    aten.hardswish,
    aten.native_batch_norm,
    aten._native_batch_norm_legit_no_training,
    aten.cudnn_batch_norm,
)
_BATCH_NORMS = _ELEMENTWISE[1:]


class Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Records the layers and the buffers of everything that runs under it.

    Storages are kept until the trace is dropped, so that none is mistaken for an earlier one; on the meta device they
    take no memory.

    Args:
        weights: Parameters and buffers by name; they are no features.
        inputs: What the network is given, one image.

    Attributes:
        layers: Convolutions, fully connected layers and matrix products, in the order of execution.
        pairs: Indices of each depthwise convolution and the 1x1 convolution that first reads it.
        batch_norms: Names of the batch norms that come straight after a layer, with the layer's index.
        steps: All operations.
        sizes: Elements of each buffer.
        inputs: Buffers of the inputs.
        activations: Elements of the layers' outputs.
    """

    def __init__(self, weights: Mapping[str, Tensor], inputs: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's base has no types
        self.layers: list[LayerCost] = []
        self.pairs: list[tuple[int, int]] = []
        self.batch_norms: list[tuple[str, int]] = []
        self.steps: list[Step] = []
        self.sizes: list[int] = []
        self.activations = 0
        self._weights = {_storage(tensor): name for name, tensor in weights.items()}
        self._counted: set[str] = set()
        self._buffers: dict[int, int] = {}
        self._kept: list[Tensor] = []
        self._maker: dict[int, int] = {}  # buffer -> layer that made it, with nothing after it
        self._depthwise: dict[int, int] = {}  # buffer -> depthwise layer, only elementwise operations after it
        self.inputs = self.buffers(inputs)

    def buffers(self, tensors: Iterable[Tensor]) -> tuple[int, ...]:
        """Return the buffers of features behind tensors, each once, new ones made known."""
        found: dict[int, None] = {}
        for tensor in tensors:
            key = _storage(tensor)
            if key in self._weights or not tensor.numel():
                continue
            if key not in self._buffers:
                self._buffers[key] = len(self.sizes)
                self.sizes.append(tensor.numel())
                self._kept.append(tensor)
            found[self._buffers[key]] = None
        return tuple(found)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and note it down."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        operator = func.overloadpacket
        read = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        reads = self.buffers(read)
        if operator is aten.constant_pad_nd and reads:
            # A runtime pads inside the convolution that follows; the padded map is never laid out.
            self._buffers[_storage(made[0])] = reads[0]
            self._kept.append(made[0])
        writes = self.buffers(made)

        elementwise = torch.Tag.pointwise in func.tags or operator in _ELEMENTWISE
        if operator in flop_registry:
            madds = int(flop_registry[operator](*args, **kwargs, out_val=out)) // 2
            self._add_layer(operator, args, read, reads, made[0], writes, madds)
        elif writes != reads[:1]:  # neither a view nor in place
            self._follow(operator, elementwise, read, reads, writes)
        elif func._schema.is_mutable:
            for buffer in writes:
                self._maker.pop(buffer, None)
                if any(self.sizes[other] == self.sizes[buffer] for other in reads[1:]):
                    self._depthwise.pop(buffer, None)  # a residual; see _follow
        layer = self.layers[-1].name if self.layers else "the input"
        name = layer if operator in flop_registry else f"{operator.__name__} after {layer}"
        self.steps.append(Step(name, reads, writes, elementwise))
        return out

    def _add_layer(
        self,
        operator: Any,
        args: Any,
        read: Sequence[Tensor],
        reads: Sequence[int],
        made: Tensor,
        writes: Sequence[int],
        madds: int,
    ) -> None:
        """Note down a convolution or matrix product."""
        own = {self._weights[_storage(tensor)]: tensor for tensor in read if _storage(tensor) in self._weights}
        matrices = {name: tensor for name, tensor in own.items() if tensor.dim() > 1}
        name = next(iter(matrices), operator.__name__)
        new = {key: tensor for key, tensor in own.items() if key not in self._counted}
        self._counted |= own.keys()
        kernel: tuple[int, ...] = ()
        kind: Kind = "fc" if matrices else "matmul"
        if operator is aten.convolution:
            weight, transposed, groups = args[1], args[6], args[8]
            kernel = tuple(weight.shape[2:])
            in_channels = args[0].shape[1]
            kind = _convolution_kind(kernel, in_channels, groups, transposed)
        else:
            in_channels = read[-1].shape[-2]
        layer = LayerCost(
            name=name.removesuffix(".weight"),
            kind=kind,
            kernel_size=kernel,
            in_channels=in_channels,
            out_shape=tuple(made.shape[1:]),
            weights=sum(tensor.numel() for tensor in new.values() if tensor.dim() > 1),
            biases=sum(tensor.numel() for tensor in new.values() if tensor.dim() == 1),
            madds=madds,
        )
        index = len(self.layers)
        self.layers.append(layer)
        self.activations += made.numel()
        self._maker |= dict.fromkeys(writes, index)
        if kind == "depthwise" and len(kernel) == 2:
            self._depthwise |= dict.fromkeys(writes, index)
        elif kind == "1x1" and reads and reads[0] in self._depthwise:
            depthwise = self._depthwise[reads[0]]
            taken = any(first == depthwise for first, _ in self.pairs)
            if not taken and self.layers[depthwise].out_shape[1:] == layer.out_shape[1:]:
                self.pairs.append((depthwise, index))

    def _follow(
        self, operator: Any, elementwise: bool, read: Sequence[Tensor], reads: Sequence[int], writes: Sequence[int]
    ) -> None:
        """Carry over what is known of a map to the one made of it."""
        if operator in _BATCH_NORMS and reads and reads[0] in self._maker:
            names = [self._weights[_storage(tensor)] for tensor in read[1:] if _storage(tensor) in self._weights]
            if names:
                self.batch_norms.append((names[0].rpartition(".")[0], self._maker[reads[0]]))
        if elementwise and writes:
            # With a gate one input has the size of the map; with a residual both have, and it is no longer separable.
            same = [buffer for buffer in reads if self.sizes[buffer] == self.sizes[writes[0]]]
            if len(same) == 1 and same[0] in self._depthwise:
                self._depthwise[writes[0]] = self._depthwise[same[0]]


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _convolution_kind(kernel_size: Sequence[int], in_channels: int, groups: int, transposed: bool) -> Kind:
    if transposed:
        return "transposed"
    if groups > 1:
        return "depthwise" if groups == in_channels else "grouped"
    return "1x1" if math.prod(kernel_size) == 1 else "standard"
