"""Which layers of a network suffer from 8-bit integers, found by quantising each alone, in simulation."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mbdet.backbones.blocks import ConvBNAct
from mbdet.errors import InputError
from mbdet.types import DetectorOutput, MultiTaskOutput, SegmenterOutput

Layer = nn.Conv2d | nn.Linear
Kind = Literal["1x1", "depthwise", "standard", "grouped", "fc"]
Decibels = dict[str, float]  # signal-to-noise ratio by output; infinite where nothing changed
Hook = Callable[[nn.Module, tuple[Any, ...]], Any]  # called before a layer, with what it reads

_BATCH = 4  # images at once
_STEP = 4  # pixels from one compared value of a map to the next, as neighbours say the same
_LEAST_SCALE = 1e-12  # where all values are 0
# See `clearly_worse`.
_CLEAR_DECIBELS, _CLEAR_DEVIATIONS = 6.0, 3.0
_DEVIATION = 1.4826  # standard deviation of normally distributed numbers, in median distances from their median


@dataclass(frozen=True)
class LayerNoise:
    """What quantising one layer does to the outputs of its network.

    Args:
        name: As `--keep_float` takes it: the module's name in the network, or of the block that it shares with a batch
            norm and an activation.
        kind: See `mbdet.cost.layers.LayerCost`.
        share: Its part of the weights of all such layers.
        decibels: The signal-to-noise ratio of each output.
    """

    name: str
    kind: Kind
    share: float
    decibels: Decibels

    @property
    def worst(self) -> float:
        """The ratio of the output that suffers most."""
        return min(self.decibels.values())


class Probe:
    """A network whose convolutions and fully connected layers can be quantised in simulation, one, some or all.

    This is what engines do after calibration with the least and largest value: weights have a scale for each output
    channel, so that a batch norm folded into them makes no difference, and what a layer reads has one scale and zero
    point. All other arithmetic stays in float.

    Args:
        network: In evaluation mode.
        images: (N, 3, H, W) uint8 RGB of the network's input size.

    Attributes:
        layers: Those layers by the name that `--keep_float` takes, in the network's order.

    Raises:
        InputError: If there are none.
    """

    def __init__(self, network: nn.Module, images: NDArray[np.uint8]) -> None:
        self._network = network
        self._images = images
        self.layers = find_layers(network)
        self._ranges: dict[str, tuple[float, float]] = {}
        with ExitStack() as hooks:
            for name, layer in self.layers.items():
                hooks.enter_context(layer.register_forward_pre_hook(_recorder(self._ranges, name)))
            self._expected = list(self._outputs())

    def measure(self, name: str) -> LayerNoise:
        """Quantise one layer alone."""
        layer = self.layers[name]
        total = sum(layer.weight.numel() for layer in self.layers.values())
        return LayerNoise(name, find_kind(layer), layer.weight.numel() / total, self.decibels([name]))

    def decibels(self, names: Sequence[str]) -> Decibels:
        """Quantise layers, compare the outputs with those in float, and leave the network as it was.

        Args:
            names: Which of `layers`.

        Returns:
            For each output, the sum of its squares over all images in proportion to that of the squared errors.
        """
        signal = dict.fromkeys(self._expected[0], 0.0)
        noise = dict(signal)
        with ExitStack() as changes:
            for name in names:
                if name in self._ranges:  # else it never runs
                    changes.enter_context(_quantized(self.layers[name], self._ranges[name]))
            for expected, actual in zip(self._expected, self._outputs(), strict=True):
                for name, values in expected.items():
                    signal[name] += float(values.double().square().sum())
                    noise[name] += float((actual[name].double() - values).square().sum())
        return {
            name: 10 * float(np.log10(signal[name] / noise[name])) if noise[name] else float("inf") for name in signal
        }

    @torch.no_grad()
    def _outputs(self) -> Iterator[dict[str, Tensor]]:
        """Yield the raw outputs for some images at a time."""
        device = next(self._network.parameters()).device
        for start in range(0, len(self._images), _BATCH):
            batch = torch.from_numpy(self._images[start : start + _BATCH]).to(device)
            yield raw_outputs(self._network(batch))


def clearly_worse(found: Sequence[LayerNoise]) -> list[str]:
    """Return the names of layers that are worth to be left in float.

    Those are the layers whose ratio for one of the outputs lies below the median of all layers by more than 6 dB, which
    is twice the error, and by more than three standard deviations; these are estimated from the median distance to the
    median, which the outliers themselves hardly move.

    Args:
        found: All layers of a network.
    """
    worse: set[str] = set()
    for output in found[0].decibels:
        ratios = {layer.name: layer.decibels[output] for layer in found if np.isfinite(layer.decibels[output])}
        if not ratios:
            continue
        values = np.array(list(ratios.values()))
        deviation = _DEVIATION * float(np.median(np.abs(values - np.median(values))))
        limit = float(np.median(values)) - max(_CLEAR_DECIBELS, _CLEAR_DEVIATIONS * deviation)
        worse |= {name for name, ratio in ratios.items() if ratio < limit}
    return [layer.name for layer in found if layer.name in worse]


def find_layers(network: nn.Module) -> dict[str, Layer]:
    """Return the convolutions and fully connected layers of a network by the name that `--keep_float` takes.

    Raises:
        InputError: If there are none.
    """
    modules = dict(network.named_modules())
    layers: dict[str, Layer] = {}
    for name, module in modules.items():
        if isinstance(module, nn.Conv2d | nn.Linear):
            parent = name.rpartition(".")[0]
            layers[parent if isinstance(modules[parent], ConvBNAct) else name] = module
    if not layers:
        raise InputError("the network has no convolution or fully connected layer, so there is nothing to quantise")
    return layers


def find_kind(layer: Layer) -> Kind:
    """Tell what a layer is."""
    if isinstance(layer, nn.Linear):
        return "fc"
    if layer.groups > 1:
        return "depthwise" if layer.groups == layer.in_channels else "grouped"
    return "1x1" if layer.kernel_size == (1, 1) else "standard"


def raw_outputs(output: Tensor | DetectorOutput | SegmenterOutput | MultiTaskOutput) -> dict[str, Tensor]:
    """Return what a network gives by name, without an auxiliary head, which no file has, and thinned maps."""
    match output:
        case MultiTaskOutput(detection, segmentation):
            return raw_outputs(detection) | raw_outputs(segmentation)
        case DetectorOutput():
            return output._asdict()
        case SegmenterOutput(logits, _):
            return {"logits": logits[..., ::_STEP, ::_STEP].clone()}  # a view would hold the whole map
        case _:
            return {"logits": output}


def _recorder(ranges: dict[str, tuple[float, float]], name: str) -> Hook:
    """Return a hook that widens the range of what a layer reads; 0 is in it, because padding must stay exact."""

    def record(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        least, largest = (float(value) for value in torch.aminmax(inputs[0]))
        before = ranges.get(name, (0.0, 0.0))
        ranges[name] = (min(before[0], least), max(before[1], largest))

    return record


@contextmanager
def _quantized(layer: Layer, bounds: tuple[float, float]) -> Iterator[None]:
    """Let a layer compute with rounded weights and inputs for a while."""
    least, largest = bounds
    scale = max((largest - least) / 255, _LEAST_SCALE)
    zero_point = round(-least / scale)

    def quantize(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (torch.fake_quantize_per_tensor_affine(inputs[0], scale, zero_point, 0, 255), *inputs[1:])

    weights = layer.weight.data
    layer.weight.data = quantize_weights(weights)
    try:
        with layer.register_forward_pre_hook(quantize):
            yield
    finally:
        layer.weight.data = weights


def quantize_weights(weights: Tensor) -> Tensor:
    """Round weights (C', ...) to 8 bits, with a scale for each output channel and no zero point."""
    scales = (weights.flatten(1).abs().amax(1) / 127).clamp(min=_LEAST_SCALE)
    zero_points = torch.zeros_like(scales, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weights, scales, zero_points, 0, -127, 127)
