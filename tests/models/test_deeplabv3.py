"""DeepLabv3 against the published counts, and its parts by hand."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from mbdet.backbones import Backbone, MobileNetV1, MobileNetV2, MobileNetV3
from mbdet.backbones.blocks import ConvConfig
from mbdet.cost import count_madds, count_parameters
from mbdet.models import DeepLabV3
from mbdet.models.deeplabv3 import ImagePooling


def v1() -> Backbone:
    return MobileNetV1(output_stride=16)


def v2(width_mult: float = 1.0) -> Backbone:
    return MobileNetV2(width_mult, last_channels=None, output_stride=16)


def v3(reduced_tail: str | None = None) -> Backbone:
    return MobileNetV3(output_stride=16, reduced_tail=reduced_tail)


# MobileNetV2 paper, table 7; V3 paper, table 7, rows 1, 5 and 6; Google's model zoo at half the width. They print the
# same parameters, rounded. Their multiply-adds are up to 2 % more than the layers have (3 % fewer at half the width),
# and up to 12 % more where there are atrous branches.
@pytest.mark.parametrize(
    ("backbone", "num_classes", "rates", "parameters", "size", "billions", "printed"),
    [
        (v2, 21, (), 2_113_557, (513, 513), 2.74, 2.75),
        (v2, 21, None, 4_523_541, (513, 513), 5.36, 5.8),
        (v1, 21, None, 11_145_301, (513, 513), 12.76, 14.25),
        (lambda: v2(0.5), 21, (), 700_245, (513, 513), 0.91, 0.88),
        (v2, 19, (), 2_113_043, (1025, 2049), 21.23, 21.29),
        (v3, 19, (), 3_600_963, (1025, 2049), 18.16, 18.43),
        (lambda: v3("segmentation"), 19, (), 1_762_435, (1025, 2049), 11.03, 11.24),
    ],
)
def test_costs_of_the_published_models(
    backbone: Callable[[], Backbone],
    num_classes: int,
    rates: tuple[int, ...] | None,
    parameters: int,
    size: tuple[int, int],
    billions: float,
    printed: float,
) -> None:
    with torch.device("meta"):
        network = DeepLabV3(backbone(), num_classes, rates=rates)
        madds = count_madds(network, torch.zeros(1, 3, *size)) / 1e9
    assert count_parameters(network) == parameters
    assert round(madds, 2) == billions
    assert 0.96 < printed / madds < (1.12 if rates is None else 1.025)


def test_costs_of_testing_at_several_scales() -> None:
    """Six scales, each mirrored too, at output stride 8: Google's model zoo prints 152.59 billion multiply-adds."""
    with torch.device("meta"):
        network = DeepLabV3(MobileNetV2(last_channels=None, output_stride=8), 21, rates=())
        sides = [int(512 * quarters / 4) + 1 for quarters in range(2, 8)]
        madds = [count_madds(network, torch.zeros(1, 3, side, side)) / 1e9 for side in sides]
    assert 2 * sum(madds) == pytest.approx(152.59, rel=0.002)


@pytest.mark.parametrize(("output_stride", "rates"), [(8, (12, 24, 36)), (16, (6, 12, 18)), (32, (3, 6, 9))])
def test_rates_follow_the_output_stride(output_stride: int, rates: tuple[int, ...]) -> None:
    with torch.device("meta"):
        network = DeepLabV3(MobileNetV2(0.35, output_stride=output_stride), 5)
    assert [branch.conv.dilation[0] for branch in network.aspp] == [1, *rates]
    assert [branch.conv.kernel_size[0] for branch in network.aspp] == [1, 3, 3, 3]


def test_costs_of_deeplabv3_plus_by_hand() -> None:
    """Separable branches, a projection of the stride-4 map to 48 channels, two separable convolutions after it."""
    with torch.device("meta"):
        plain = DeepLabV3(v2(), 21)
        network = DeepLabV3(v2(), 21, separable=True, low_level="c2_depthwise")

    def separable(channels: int) -> int:
        return 9 * channels + 2 * channels + 256 * channels + 2 * 256

    ordinary = 9 * 320 * 256 + 2 * 256
    expected = 3 * (separable(320) - ordinary) + (144 * 48 + 2 * 48) + separable(256 + 48) + separable(256)
    assert count_parameters(network) - count_parameters(plain) == expected
    assert len(network.refinements) == 2


def test_deeplabv3_plus_works_at_the_resolution_of_its_fine_map() -> None:
    with torch.device("meta"):
        network = DeepLabV3(MobileNetV2(0.35), 5, channels=8, low_level="c2_depthwise").eval()
        seen = []
        network.classifier.register_forward_hook(lambda _layer, inputs, _output: seen.append(inputs[0].shape))
        network(torch.zeros(1, 3, 97, 130))
    assert seen == [(1, 8, 25, 33)]


def test_the_pooled_branch_is_the_same_in_every_cell() -> None:
    pooling = ImagePooling(6, 4, ConvConfig()).eval()
    x = torch.randn(2, 6, 3, 5)
    y = pooling(x)
    assert y.shape == (2, 4, 3, 5)
    expected = torch.einsum("oi,bi->bo", pooling.conv.weight[..., 0, 0], x.mean((2, 3))) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(y, expected.relu()[..., None, None].expand_as(y))


def test_a_lone_image_leaves_the_statistics_of_the_pooled_branch_alone() -> None:
    """And is normalised by them; two images are normalised by their own, as in any batch norm."""
    pooling, reference = ImagePooling(6, 4, ConvConfig()), nn.BatchNorm2d(4)
    pooling(torch.randn(8, 6, 3, 5))
    before = {name: value.clone() for name, value in pooling.state_dict().items()}
    x = torch.randn(1, 6, 3, 5)
    lone = pooling.train()(x)
    assert lone.requires_grad
    torch.testing.assert_close(dict(pooling.state_dict()), before, rtol=0, atol=0)
    torch.testing.assert_close(lone, pooling.eval()(x))

    pair = torch.randn(2, 6, 3, 5)
    reference.load_state_dict(pooling.bn.state_dict())
    expected = reference(pooling.conv(pair.mean((2, 3), keepdim=True))).relu()
    torch.testing.assert_close(pooling.train()(pair)[..., :1, :1], expected)
    torch.testing.assert_close(dict(pooling.bn.state_dict()), dict(reference.state_dict()))
    assert not torch.equal(pooling.bn.running_mean, before["bn.running_mean"])


def test_dropout_stands_before_the_classifier_and_in_training_only() -> None:
    network = DeepLabV3(MobileNetV3("small", width_mult=0.35), 3, channels=8, rates=(), dropout=1.0)
    nn.init.normal_(network.classifier.bias)
    images = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    dropped = network.train()(images).logits
    torch.testing.assert_close(dropped, network.classifier.bias[:, None, None].expand_as(dropped))
    assert network.eval()(images).logits.std((2, 3)).min() > 0
