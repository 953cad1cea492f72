"""The layers that suffer from 8 bits, in networks by hand whose bad layer is known."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mbdet.backbones.blocks import ConvBNAct, ConvConfig
from mbdet.errors import InputError
from mbdet.export.sensitivity import LayerNoise, Probe, clearly_worse, find_layers, quantize_weights, raw_outputs
from mbdet.types import DetectorOutput, MultiTaskOutput, SegmenterOutput


class Chain(nn.Module):
    """Convolution blocks of all kinds, whose numbers stay about as large as they were, and a fully connected layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        config = ConvConfig()
        self.stem = ConvBNAct(3, 16, config, kernel_size=3, act="linear")
        self.depthwise = ConvBNAct(16, 16, config, kernel_size=3, groups=16, act="linear")
        self.grouped = nn.Conv2d(16, 16, 1, groups=4)
        self.pointwise = ConvBNAct(16, 16, config, act="linear")
        self.logits = nn.Linear(16, 5)
        self.unused = nn.Conv2d(16, 4, 1)
        images = torch.from_numpy(pictures())
        for block in (self.stem, self.depthwise, self.pointwise):
            block.bn.momentum = 1.0
        with torch.no_grad():
            self.train()(images)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        x = self.grouped(self.depthwise(self.stem(images.float() / 255)))
        return self.logits(self.pointwise(x).square().mean((2, 3)))


def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 3, 12, 10), dtype=np.uint8)


def wild_weight(network: Chain) -> str:
    """One weight of each output channel dwarfs the others, so that these all become 0; it meets an input of 0."""
    with torch.no_grad():
        network.grouped.weight[:, 0] *= 2000
        for channel in range(0, 16, 4):  # the first input channel of each group
            network.depthwise.bn.weight[channel] *= 1 / 2000
            network.depthwise.bn.bias[channel] = 0
    return "grouped"


def wild_activation(network: Chain) -> str:
    """One channel is a thousand times as large as those that it is read with, and hardly counts."""
    with torch.no_grad():
        network.grouped.weight[3] *= 1000
        network.grouped.bias[3] *= 1000
        network.pointwise.conv.weight[:, 3] /= 1000
    return "pointwise"


@pytest.mark.parametrize("spoil", [wild_weight, wild_activation])
def test_the_wild_layer_is_the_worst(spoil: Callable[[Chain], str]) -> None:
    network = Chain()
    before = Probe(network, pictures())
    healthy = [before.measure(name) for name in before.layers]
    assert clearly_worse(healthy) == []
    bad = spoil(network)
    probe = Probe(network, pictures())
    found = [probe.measure(name) for name in probe.layers]
    worst = min(found, key=lambda layer: layer.worst)
    assert worst.name == bad
    assert worst.worst < min(layer.worst for layer in healthy) - 10
    assert clearly_worse(found) == [bad]
    together = probe.decibels(list(probe.layers))["logits"]
    without = probe.decibels([name for name in probe.layers if name != bad])["logits"]
    assert without > together + 10


def test_what_is_reported_of_a_layer() -> None:
    probe = Probe(Chain(), pictures())
    found = {name: probe.measure(name) for name in probe.layers}
    assert {name: layer.kind for name, layer in found.items()} == {
        "stem": "standard",
        "depthwise": "depthwise",
        "grouped": "grouped",
        "pointwise": "1x1",
        "logits": "fc",
        "unused": "1x1",
    }
    assert sum(layer.share for layer in found.values()) == pytest.approx(1)
    assert found["stem"].share == pytest.approx(432 / (432 + 144 + 64 + 256 + 80 + 64))
    assert found["unused"].decibels == {"logits": float("inf")}
    assert all(10 < layer.worst < 80 for name, layer in found.items() if name != "unused")


def test_the_ratio_of_a_layer_computed_by_hand() -> None:
    """A fully connected layer alone: 8 bits from 0 to 5.1 are steps of 0.02, and of weights to 1.27 steps of 0.01."""

    class Alone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.logits = nn.Linear(2, 1, bias=False)
            self.logits.weight.data = torch.tensor([[1.27, 0.504]])

        def forward(self, images: Tensor) -> Tensor:
            return self.logits(images[:, :2, 0, 0].float() * 0.03)

    images = np.zeros((1, 3, 1, 1), np.uint8)
    images[0, :2, 0, 0] = 170, 3  # 5.1, and 0.09, which becomes 0.08 or 0.10
    found = Probe(Alone(), images).decibels(["logits"])["logits"]
    exact = 5.1 * 1.27 + 0.09 * 0.504
    expected = [20 * np.log10(exact / abs(5.1 * 1.27 + read * 0.50 - exact)) for read in (0.08, 0.10)]
    assert min(abs(found - value) for value in expected) < 0.01


def test_the_network_is_left_as_it_was() -> None:
    network = Chain()
    images = torch.from_numpy(pictures())
    before = network(images)
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    probe = Probe(network, pictures())
    probe.decibels(list(probe.layers))
    network.register_forward_pre_hook(lambda *_: pytest.fail("stop"))
    with pytest.raises(pytest.fail.Exception):
        probe.decibels(["stem"])
    network._forward_pre_hooks.clear()
    assert all(torch.equal(weights[name], value) for name, value in network.state_dict().items())
    assert not any(layer._forward_pre_hooks for layer in network.modules())
    assert torch.equal(network(images), before)


def test_a_folded_batch_norm_changes_no_rounding() -> None:
    """Why the batch norm after a convolution can be left where it is."""
    torch.manual_seed(0)
    weights, factors = torch.randn(8, 4, 3, 3), torch.rand(8, 1, 1, 1) * 100
    torch.testing.assert_close(quantize_weights(weights * factors), quantize_weights(weights) * factors)
    assert (quantize_weights(weights) - weights).abs().max() < weights.abs().max() / 127


def test_a_channel_of_zeros_stays_so() -> None:
    assert not quantize_weights(torch.zeros(2, 3)).any()


def test_outputs_by_name() -> None:
    detection = DetectorOutput(torch.ones(1, 6, 4), torch.ones(1, 6, 3))
    segmentation = SegmenterOutput(torch.ones(1, 2, 9, 9), torch.ones(1, 2, 9, 9))
    found = raw_outputs(MultiTaskOutput(detection, segmentation))
    assert {name: tuple(values.shape) for name, values in found.items()} == {
        "box_deltas": (1, 6, 4),
        "class_logits": (1, 6, 3),
        "logits": (1, 2, 3, 3),
    }


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ([40, 41, 42, 43, 44, 20], ["f"]),
        ([40, 41, 42, 43, 44, 36], []),  # not 6 dB below
        ([20, 30, 40, 50, 60, 15], []),  # not clear where all differ
        ([40.0, 40, 40, 40, 40, 33], ["f"]),
        ([float("inf")] * 6, []),
    ],
)
def test_clearly_worse(ratios: list[float], expected: list[str]) -> None:
    other = {"other": 30.0}
    found = [
        LayerNoise(name, "1x1", 0.1, {"one": ratio, **other}) for name, ratio in zip("abcdef", ratios, strict=True)
    ]
    assert clearly_worse(found) == expected


def test_nothing_to_quantise() -> None:
    with pytest.raises(InputError, match="no convolution or fully connected layer"):
        find_layers(nn.Sequential(nn.ReLU()))
