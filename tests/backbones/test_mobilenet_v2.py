"""MobileNetV2 against the published widths, torchvision's network and TensorFlow's padding."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import mobilenet_v2

from mbdet.backbones import MobileNetV2
from mbdet.backbones.blocks import SameConv2d, dilate, make_divisible

STRIDES = [2, 1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1]  # the stem and the 17 blocks


@pytest.mark.parametrize(
    ("width_mult", "scale_last", "widths"),
    [
        (1.4, False, [48, 24, 32, 48, 88, 136, 224, 448, 1792]),
        (1.3, False, [40, 24, 32, 40, 80, 128, 208, 416, 1664]),
        (1.0, False, [32, 16, 24, 32, 64, 96, 160, 320, 1280]),
        (0.75, False, [24, 16, 24, 24, 48, 72, 120, 240, 1280]),
        (0.5, False, [16, 8, 16, 16, 32, 48, 80, 160, 1280]),
        (0.35, False, [16, 8, 8, 16, 24, 32, 56, 112, 1280]),
        (0.5, True, [16, 8, 16, 16, 32, 48, 80, 160, 640]),
        (0.35, True, [16, 8, 8, 16, 24, 32, 56, 112, 448]),
        (1.4, True, [48, 24, 32, 48, 88, 136, 224, 448, 1792]),
    ],
)
def test_widths(width_mult: float, scale_last: bool, widths: list[int]) -> None:
    with torch.device("meta"):
        network = MobileNetV2(width_mult, scale_last)
    firsts = [network.blocks[index].project for index in (0, 1, 3, 6, 10, 13, 16)]
    assert [layer.conv.out_channels for layer in (network.stem, *firsts, network.last)] == widths
    assert network.specs["c3"].channels == widths[3]
    assert network.specs["c4"].channels == widths[5]
    assert network.specs["c4_expand"].channels == 6 * widths[5]


def test_narrowest_width_of_the_tf_detectors() -> None:
    """No output is narrower than 16 there; what expands it follows."""
    with torch.device("meta"):
        network = MobileNetV2(0.35, scale_last=True, min_channels=16)
    firsts = [network.blocks[index].project for index in (0, 1, 3, 6, 10, 13, 16)]
    widths = [layer.conv.out_channels for layer in (network.stem, *firsts, network.last)]
    assert widths == [16, 16, 16, 16, 24, 32, 56, 112, 448]
    assert [block.expanded_channels for block in network.blocks[:3]] == [16, 96, 96]
    with torch.device("meta"):
        assert MobileNetV2(0.01, scale_last=True, min_channels=24).specs["c5"].channels == 24
    assert network.specs["c5"].channels == widths[8]


@pytest.fixture(params=[1.0, 0.5])
def pair(request: pytest.FixtureRequest) -> tuple[MobileNetV2, nn.Module]:
    """Return our network and torchvision's with the same random numbers in every parameter and statistic."""
    torch.manual_seed(0)
    theirs = mobilenet_v2(weights=None, width_mult=request.param).double().eval()
    for layer in theirs.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.2)
            nn.init.normal_(layer.running_mean, std=0.2)
            nn.init.uniform_(layer.running_var, 0.5, 2.0)
    ours = MobileNetV2(request.param).double().eval()
    # Both list their layers from the image on, so the order alone maps one to the other.
    names = [name for name in ours.state_dict() if not name.startswith("normalize.")]
    values = list(theirs.features.state_dict().values())
    ours.load_state_dict(dict(zip(names, values, strict=True)), strict=False)
    return ours, theirs


@contextmanager
def recorded(**layers: nn.Module) -> Iterator[dict[str, Tensor]]:
    outputs: dict[str, Tensor] = {}
    handles = [
        layer.register_forward_hook(lambda _layer, _inputs, output, name=name: outputs.update({name: output}))
        for name, layer in layers.items()
    ]
    yield outputs
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("size", [(96, 128), (65, 97)])
def test_equals_torchvision(pair: tuple[MobileNetV2, nn.Module], size: tuple[int, int]) -> None:
    ours, theirs = pair
    images = torch.randint(256, (2, 3, *size), dtype=torch.uint8)
    normalised = (images - torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)) / torch.tensor(
        [58.395, 57.12, 57.375]
    ).view(3, 1, 1)
    parts = theirs.features
    taps = {
        "c2_depthwise": parts[3].conv[1],
        "c3_first": parts[4],
        "c3": parts[6],
        "c3_depthwise": parts[6].conv[1],
        "c4": parts[13],
        "c4_expand": parts[14].conv[0],
        "c5": parts[18],
    }
    with torch.no_grad(), recorded(**taps) as expected:
        logits = theirs(normalised.double())
        features = ours(images)
    assert list(features) == list(taps)
    for name, feature in features.items():
        torch.testing.assert_close(feature, expected[name], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(theirs.classifier(features["c5"].mean((2, 3))), logits, rtol=1e-5, atol=1e-5)


# Pixels before and after, of TensorFlow's SAME: the missing ones are shared out, the odd one after.
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "height", "width", "pads"),
    [
        (3, 2, 1, 8, 6, (0, 1, 0, 1)),
        (3, 2, 1, 7, 9, (1, 1, 1, 1)),
        (3, 2, 1, 8, 9, (1, 1, 0, 1)),
        (3, 2, 1, 1, 2, (0, 1, 1, 1)),
        (3, 1, 1, 8, 9, (1, 1, 1, 1)),
        (3, 1, 2, 8, 9, (2, 2, 2, 2)),
        (5, 2, 1, 8, 9, (2, 2, 1, 2)),
        (1, 2, 1, 8, 9, (0, 0, 0, 0)),
    ],
)
def test_same_padding_by_hand(
    kernel: int, stride: int, dilation: int, height: int, width: int, pads: tuple[int, int, int, int]
) -> None:
    conv = SameConv2d(4, 6, kernel, stride, dilation=dilation)
    x = torch.randn(2, 4, height, width)
    expected = F.conv2d(F.pad(x, pads), conv.weight, conv.bias, stride, dilation=dilation)
    assert expected.shape[-2:] == (-(-height // stride), -(-width // stride))
    torch.testing.assert_close(conv(x), expected)


@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_padding_of_the_network(padding: str) -> None:
    """On even sizes the two conventions see the image one pixel apart, at every stride of 2."""
    network = MobileNetV2(0.35, padding=padding).eval()
    strided = [conv for conv in network.modules() if isinstance(conv, nn.Conv2d) and conv.stride == (2, 2)]
    assert len(strided) == 5
    pads = (0, 1, 0, 1) if padding == "same" else (1, 1, 1, 1)
    for conv in strided:
        x = torch.randn(1, conv.in_channels, 10, 12)
        expected = F.conv2d(F.pad(x, pads), conv.weight, stride=2, groups=conv.groups)
        torch.testing.assert_close(conv(x), expected)


@pytest.mark.parametrize(
    ("output_stride", "expected"),
    [
        (32, [(stride, 1) for stride in STRIDES]),
        (16, [(stride, 1) for stride in STRIDES[:14]] + [(1, 1)] + [(1, 2)] * 3),
        (8, [(stride, 1) for stride in STRIDES[:7]] + [(1, 1)] + [(1, 2)] * 7 + [(1, 4)] * 3),
    ],
)
def test_dilation_starts_after_the_layer_that_gives_up_its_stride(
    output_stride: int, expected: list[tuple[int, int]]
) -> None:
    assert list(dilate(STRIDES, output_stride)) == expected
    with torch.device("meta"):
        network = MobileNetV2(output_stride=output_stride)
    convs = [network.stem.conv] + [block.depthwise.conv for block in network.blocks]
    assert [(conv.stride[0], conv.dilation[0]) for conv in convs] == expected


def test_a_dilated_network_agrees_where_the_strided_one_looks() -> None:
    """With the rates above, every second cell of the finer map sees the same pixels, so it gives the same numbers."""
    strided, dilated = MobileNetV2(0.35, bn_momentum=1.0), MobileNetV2(0.35, output_stride=16).eval()
    images = torch.randint(256, (2, 3, 128, 160), dtype=torch.uint8)
    strided.train()(images)  # statistics that keep the activations alive
    dilated.load_state_dict(strided.eval().state_dict())
    coarse, fine = strided(images)["c5"], dilated(images)["c5"]
    assert coarse.std() > 0.1
    torch.testing.assert_close(fine[:, :, ::2, ::2], coarse, rtol=1e-3, atol=1e-4)


def test_c4_expand_hangs_on_the_expansion_after_c4_and_nothing_more() -> None:
    images = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    reached = {}
    for tap in ("c4", "c4_expand"):
        network = MobileNetV2(0.35).eval()
        network(images)[tap].sum().backward()
        reached[tap] = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    expansion = {f"blocks.13.expand.{name}" for name in ("conv.weight", "bn.weight", "bn.bias")}
    assert reached["c4_expand"] == reached["c4"] | expansion
    assert max(int(name.split(".")[1]) for name in reached["c4"] if name.startswith("blocks.")) == 12


def test_residual_where_the_shapes_allow() -> None:
    with torch.device("meta"):
        blocks = MobileNetV2().blocks
    assert [index for index, block in enumerate(blocks) if block.residual] == [2, 4, 5, 7, 8, 9, 11, 12, 14, 15]


@pytest.mark.parametrize(
    ("value", "expected"), [(32, 32), (3, 8), (11.2, 16), (16.8, 16), (44.8, 48), (19.2, 24), (89.6, 88), (12, 16)]
)
def test_make_divisible(value: float, expected: int) -> None:
    assert make_divisible(value) == expected
