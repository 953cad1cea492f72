"""A network as a graph that rounds to int8 as it goes, on the very weights of the network."""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from mbdet.errors import InputError
from mbdet.models import Network

try:
    from torchao.quantization.pt2e import FakeQuantize
    from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e

    from mbdet.export.xnnpack_quantizer import NetworkQuantizer, normalizations, rounds_weights
except ModuleNotFoundError as error:
    raise InputError(f"quantisation-aware training needs {error.name}: pip install 'mbdet[executorch]'") from error

aten = torch.ops.aten

MIN_SCALE = 1e-4  # of a batch norm's weight


class FakeQuantized:
    """A network whose convolutions, sums and products take and give values that int8 can express.

    The batch norms are folded into the convolutions before these are rounded, one scale for each output channel. The
    parameters and statistics are the network's own tensors: what trains or loads one trains or loads the other.

    The statistics stay as they are, and passes in training use them too: they would adapt to the rounding, and the
    network without it, or rounded by ranges that another tool has learned, would be another one.

    Args:
        network: On its device, where it must stay.

    Attributes:
        observing: Whether training passes move the ranges of the activations; those of the weights always follow them.
    """

    def __init__(self, network: Network) -> None:
        _part_from_zero(network)
        captured = _capture(network)
        names = set(captured.state_dict())
        quantizer = NetworkQuantizer("", normalizations(network), training=True)
        self._prepared: GraphModule = prepare_qat_pt2e(captured, quantizer)
        _restore_constants(self._prepared, network)
        self._of_rounding = [name for name in self._prepared.state_dict() if name not in names]
        self._training = _variant(self._prepared, dropout=True)
        self._evaluation = _variant(self._prepared, dropout=False)
        self.observing = True
        self._moves: bool | None = None  # whether passes move the ranges as it is

    def __call__(self, images: Tensor, training: bool) -> Any:
        """Return what the network would return.

        Args:
            images: (B, 3, H, W) uint8 of the network's input size.
            training: Whether this is a pass to learn from.
        """
        moves = training and self.observing
        if moves != self._moves:
            for module in self._prepared.modules():
                if isinstance(module, FakeQuantize):
                    module.enable_observer(moves or rounds_weights(module))
            self._moves = moves
        return (self._training if training else self._evaluation)(images)

    def ranges(self) -> dict[str, Tensor]:
        """Return what has been observed of the values, by the names of the graph."""
        state = self._prepared.state_dict()
        return {name: state[name] for name in self._of_rounding}

    def load_ranges(self, ranges: dict[str, Tensor]) -> None:
        """Take what was observed before.

        Raises:
            InputError: If it belongs to another graph.
        """
        if set(ranges) != set(self._of_rounding):
            raise InputError(
                "the checkpoint's quantisation ranges are of another network, or another version of torchao; start the"
                " fine-tuning again, from its weights: --model.weights CHECKPOINT"
            )
        self._prepared.load_state_dict(ranges, strict=False)
        self._moves = None


def _part_from_zero(network: Network) -> None:
    """Keep the weights of batch norms away from 0: outputs are scaled by them and back, and 0 / 0 is no number.

    What it changes is far less than int8 can express.
    """
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.weight.data[layer.weight.abs() < MIN_SCALE] = MIN_SCALE


def _capture(network: Network) -> GraphModule:
    """Return the graph of a network in training, the only form in which torchao folds batch norms; modes are kept."""
    modes = {layer: layer.training for layer in network.modules()}
    images = torch.zeros(2, 3, *network.input_size, dtype=torch.uint8, device=next(network.parameters()).device)
    try:
        exported = torch.export.export(
            network.train(), (images,), dynamic_shapes=({0: torch.export.Dim("batch", min=2)},)
        )
    finally:
        for layer, mode in modes.items():
            layer.training = mode
    # Without its checks of the inputs, because in evaluation a batch may be of one image.
    return exported.module(check_guards=False)


def _restore_constants(prepared: GraphModule, network: Network) -> None:
    """Give the batch norms their constants back: torchao 0.18 folds them all with eps 1e-5 and momentum 0.1."""
    for node in prepared.graph.nodes:
        if node.target is aten.batch_norm.default:
            layer = _layer_of(node.args[3], network)
            node.update_arg(6, layer.momentum)
            node.update_arg(7, layer.eps)
        # The variance by which a folded kernel is scaled.
        elif node.target is aten.add.Tensor and str(getattr(node.args[0], "target", "")).endswith(".running_var"):
            node.update_arg(1, _layer_of(node.args[0], network).eps)
    prepared.recompile()


def _variant(prepared: GraphModule, dropout: bool) -> GraphModule:
    """Return a graph on the same tensors and ranges whose batch norms use the statistics that they have.

    torchao's own switch, `move_exported_model_to_eval`, would set the constants of the batch norms as well.

    Args:
        prepared: A graph in training.
        dropout: Whether it acts.
    """
    variant = GraphModule(prepared, deepcopy(prepared.graph))
    for node in list(variant.graph.nodes):
        if node.target is aten.dropout.default:
            node.update_arg(2, dropout)
        elif node.target is aten.batch_norm.default:
            node.update_arg(5, False)
        elif node.target is aten.add_.Tensor and node.args[0].op == "get_attr":  # the counter of a batch norm
            node.update_arg(1, 0)
    variant.recompile()
    return variant


def _layer_of(node: Any, network: Network) -> nn.BatchNorm2d:
    """Return the batch norm that the tensor of a node belongs to."""
    layer = network.get_submodule(str(node.target).rpartition(".")[0])
    assert isinstance(layer, nn.BatchNorm2d)
    return layer
