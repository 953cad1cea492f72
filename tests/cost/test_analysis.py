"""Whole networks: small ones by hand, published ones against their papers."""

import pytest
import torch
from torch import Tensor, nn

from mbdet.backbones import MobileNetV1, MobileNetV2
from mbdet.cost import ConvCost, FileSize, Peak, analyse, count_madds, count_parameters, separable_ratio
from mbdet.models import SSDLite


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = MobileNetV1()
        self.fc = nn.Linear(1024, 1000)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.backbone(images)["c5"].mean((2, 3)))
        return logits


class Twice(nn.Module):
    """One convolution on two maps, a batch norm for each, and the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(4), nn.BatchNorm2d(4)])

    def forward(self, images: Tensor) -> Tensor:
        first, second = (norm(self.conv(images)) for norm in self.norms)
        total: Tensor = first + second
        return total


class Gated(nn.Module):
    """Depthwise, squeeze and excite, then two 1x1 convolutions that read the result."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(8, 8, 5, padding=2, groups=8)
        self.norm = nn.BatchNorm2d(8)
        self.squeeze = nn.Conv2d(8, 8, 1)
        self.project = nn.Conv2d(8, 8, 1)
        self.tap = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        filtered = nn.functional.hardswish(self.norm(self.depthwise(x)))
        filtered = filtered * torch.sigmoid(self.squeeze(filtered.mean((2, 3), keepdim=True)))
        return self.project(filtered), self.tap(filtered)


class Residual(nn.Module):
    """A depthwise convolution whose input is added to it before the 1x1 convolution."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(3, 3, 3, padding=1, groups=3)
        self.pointwise = nn.Conv2d(3, 4, 1)
        self.in_place = in_place

    def forward(self, x: Tensor) -> Tensor:
        filtered = self.depthwise(x)
        out: Tensor = self.pointwise(filtered.add_(x) if self.in_place else filtered + x)
        return out


def small_network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
        nn.ReLU6(),
        nn.Conv2d(8, 8, 1, groups=2, bias=False),
        nn.ConvTranspose2d(8, 4, 2, stride=2, bias=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 5),
    )


def test_layers_by_hand() -> None:
    cost = analyse(small_network(), (10, 12))
    found = [(layer.name, layer.kind, layer.out_shape, layer.parameters, layer.madds) for layer in cost.layers]
    assert found == [
        ("0", "standard", (8, 5, 6), 216 + 8, 216 * 30),
        ("2", "depthwise", (8, 5, 6), 72, 72 * 30),
        ("4", "grouped", (8, 5, 6), 32, 32 * 30),
        ("5", "transposed", (4, 10, 12), 128, 128 * 30),
        ("8", "fc", (5,), 20 + 5, 20),
    ]
    assert cost.madds == 448 * 30 + 20 == count_madds(small_network(), torch.zeros(1, 3, 10, 12))
    assert cost.weights == 468
    assert (cost.parameters, cost.parameters_without_bn) == (468 + 13 + 16, 468 + 13)
    assert cost.activations == 3 * 240 + 480 + 5
    # While the transposed convolution runs: what it reads and what it makes.
    assert cost.peak == Peak(240 + 480, "5")


def test_file_size_by_hand() -> None:
    """The batch norm goes into the bias that its convolution has; the rest has none; scales are one per channel."""
    cost = analyse(small_network(), (10, 12))
    assert cost.file == FileSize(4 * (468 + 13), 2 * (468 + 13), 468 + 4 * (8 + 8 + 8 + 4 + 5) + 4 * 13)

    folded = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4))
    assert analyse(folded, (2, 2)).file == FileSize(4 * 16, 2 * 16, 12 + 4 * 4 + 4 * 4)
    before = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1, bias=False))
    assert analyse(before, (2, 2)).file.fp32 == 4 * (12 + 6)
    after_activation = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.ReLU(), nn.BatchNorm2d(4))
    assert analyse(after_activation, (2, 2)).file.fp32 == 4 * (12 + 8)
    in_place = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.ReLU(inplace=True), nn.BatchNorm2d(4))
    assert analyse(in_place, (2, 2)).file.fp32 == 4 * (12 + 8)


def test_a_layer_that_runs_twice() -> None:
    """Its weights count once, its multiply-adds twice, and it cannot take up two batch norms."""
    cost = analyse(Twice(), (5, 6))
    assert [(layer.name, layer.weights, layer.madds) for layer in cost.layers] == [("conv", 12, 360), ("conv", 0, 360)]
    assert cost.file.fp32 == 4 * (12 + 16)
    assert cost.peak == Peak(90 + 2 * 120, "conv")  # the image and the first map during the second


@pytest.mark.parametrize("in_place", [False, True])
def test_a_sum_is_not_separable(in_place: bool) -> None:
    assert analyse(Residual(in_place), (7, 9)).pairs == ()


def test_pairs_see_through_a_gate() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 1), Gated())
    (pair,) = analyse(network, (7, 9)).pairs
    assert (pair.depthwise.name, pair.pointwise.name) == ("1.depthwise", "1.project")
    assert pair.separable == ConvCost((200 + 64) * 63, 200 + 64)
    assert pair.standard == ConvCost(25 * 64 * 63, 25 * 64)
    assert pair.ratio == pytest.approx(separable_ratio((5, 5), 8))


def test_shares_of_table_2() -> None:
    """V1 paper, Table 2, with 1.91 % for the first convolution, where it prints 1.19 %; the column sums to 100 so."""
    with torch.device("meta"):
        cost = analyse(Classifier(), (224, 224))
    shares = {row.kind: (100 * row.madds_share, 100 * row.weights_share) for row in cost.operators()}
    expected = {"1x1": (94.86, 74.59), "depthwise": (3.06, 1.06), "standard": (1.91, 0.02), "fc": (0.18, 24.33)}
    assert list(shares) == list(expected)
    for kind, share in expected.items():
        assert shares[kind] == pytest.approx(share, abs=0.005)
    assert cost.madds == 568_740_352
    assert cost.parameters == 4_231_976


def test_full_convolutions_of_table_4() -> None:
    """V1 paper, Table 4: 4866 M multiply-adds and 29.3 M parameters with standard convolutions.

    The former is what the convolutions alone have; the fully connected layer would make it 4867 M.
    """
    with torch.device("meta"):
        cost = analyse(Classifier(), (224, 224))
    assert len(cost.pairs) == 13
    convolutions = sum(layer.madds for layer in cost.layers if layer.kind != "fc")
    assert (convolutions - cost.separable.madds + cost.standard.madds) / 1e6 == pytest.approx(4866, abs=0.5)
    assert (cost.weights - cost.separable.weights + cost.standard.weights) / 1e6 == pytest.approx(29.3, abs=0.05)
    for pair in cost.pairs:
        assert pair.ratio == pytest.approx(separable_ratio((3, 3), pair.pointwise.out_channels))


@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_ssdlite(padding: str) -> None:
    """The largest moment is the first stride-2 depthwise convolution: its input, 96 channels, and a quarter of it."""
    with torch.device("meta"):
        detector = SSDLite(MobileNetV2(scale_last=True, padding=padding), 80, padding=padding)  # type: ignore[arg-type]
        cost = analyse(detector, (320, 320))
        assert cost.madds == count_madds(detector, torch.zeros(1, 3, 320, 320))
    assert cost.parameters_without_bn == 4_286_261
    assert sum(layer.parameters for layer in cost.layers) == 4_286_261
    assert len(cost.pairs) == 17 + 4 + 12
    assert cost.peak == Peak(96 * (160**2 + 80**2), "backbone.blocks.1.depthwise.conv")


def test_large_inputs_are_counted_like_small_ones() -> None:
    """The resolution multiplier: multiply-adds grow with the area, the parameters stay (V1 paper, section 3.4)."""
    with torch.device("meta"):
        small, large = (analyse(MobileNetV1(), size) for size in ((512, 1024), (1024, 2048)))
    assert large.madds == 4 * small.madds
    assert large.peak.elements == 4 * small.peak.elements
    assert (large.parameters, large.file) == (small.parameters, small.file)


def test_the_network_stays_as_it_is() -> None:
    network = nn.Sequential(MobileNetV2(0.35)).train()
    network[0].stem.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    parameters = list(network.parameters())
    analyse(network, (64, 64))
    torch.testing.assert_close(dict(network.state_dict()), before)
    assert all(now is then for now, then in zip(network.parameters(), parameters, strict=True))
    assert all(parameter.device.type == "cpu" and parameter.requires_grad for parameter in network.parameters())
    assert network.training
    assert network[0].last.training
    assert not network[0].stem.training


def test_matrix_products_without_weights() -> None:
    class Attention(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images @ images.mT

    cost = analyse(Attention(), (4, 5))
    assert [(layer.kind, layer.weights, layer.madds) for layer in cost.layers] == [("matmul", 0, 3 * 4 * 4 * 5)]
    assert cost.file == FileSize(0, 0, 0)
    assert count_parameters(Attention()) == cost.parameters == 0
