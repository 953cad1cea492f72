"""What every segmenter promises, checked on all of them."""

import itertools
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from mbdet.backbones import Backbone, MobileNetV1, MobileNetV2, MobileNetV3
from mbdet.models import LRASPP, DeepLabV3, Segmenter
from mbdet.testing import check_gradients, check_segmenter, noise, settle
from mbdet.types import SegmenterOutput

Build = Callable[..., Segmenter]

SEGMENTERS: dict[str, Build] = {
    "deeplabv3": partial(DeepLabV3, channels=16),
    "deeplabv3 without aspp": partial(DeepLabV3, channels=16, rates=()),
    "deeplabv3+": partial(DeepLabV3, channels=16, separable=True, low_level="c2_depthwise", aux="c4"),
    "deeplabv3 as torchvision's": partial(DeepLabV3, channels=16, refinements=1, aux="c3_first", align_corners=False),
    "lraspp": partial(LRASPP, channels=16, pool_size=(2, 3), pool_stride=(1, 2)),
    "lraspp as torchvision's": partial(
        LRASPP, channels=16, pool_size=None, low_level="c3_first", gate_bias=False, align_corners=False
    ),
}
BACKBONES: dict[str, Callable[..., Backbone]] = {
    "v1": partial(MobileNetV1, 0.25),
    "v2": partial(MobileNetV2, 0.35, last_channels=None),
    "v3-large": partial(MobileNetV3, "large", width_mult=0.35, reduced_tail="segmentation"),
    "v3-small": partial(MobileNetV3, "small", width_mult=0.35),
}
each_segmenter = pytest.mark.parametrize("build", SEGMENTERS.values(), ids=SEGMENTERS)
each_backbone = pytest.mark.parametrize("backbone", BACKBONES.values(), ids=BACKBONES)
any_backbone = pytest.mark.parametrize("backbone", [partial(BACKBONES["v3-small"], output_stride=16)], ids=["v3-small"])


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def maps(output: SegmenterOutput) -> list[Tensor]:
    return [x for x in output if x is not None]


@each_segmenter
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_logits_are_as_large_as_the_images(build: Build, output_stride: int) -> None:
    with torch.device("meta"):
        network = build(MobileNetV2(0.35, last_channels=None, output_stride=output_stride), 5).eval()
        assert network.num_classes == 5
        for height, width in ((64, 97), (225, 1), (513, 769)):
            output = network(torch.zeros(2, 3, height, width))
            assert type(output) is SegmenterOutput
            assert all(x.shape == (2, 5, height, width) for x in maps(output))


@each_segmenter
@any_backbone
def test_keeps_the_contract(build: Build, backbone: Callable[..., Backbone]) -> None:
    check_segmenter(lambda: build(backbone(), 5))


@each_segmenter
@each_backbone
def test_backward_reaches_every_parameter(build: Build, backbone: Callable[..., Backbone]) -> None:
    check_gradients(build(backbone(), 5))


@each_segmenter
@any_backbone
def test_the_auxiliary_logits_are_there_where_they_are_asked_for(
    build: Build, backbone: Callable[..., Backbone]
) -> None:
    with torch.device("meta"):
        network = build(backbone(), 5)
        output = network(torch.zeros(2, 3, 64, 96))
    assert (output.aux_logits is not None) == (getattr(network, "aux", None) is not None)


@each_segmenter
@any_backbone
def test_state_dict_does_not_depend_on_the_output_stride(build: Build, backbone: Callable[..., Backbone]) -> None:
    with torch.device("meta"):
        networks = [build(backbone(output_stride=stride), 5) for stride in (8, 16, 32)]
    shapes = [{name: value.shape for name, value in network.state_dict().items()} for network in networks]
    assert shapes[0] == shapes[1] == shapes[2]


@each_segmenter
@any_backbone
def test_a_batch_of_one(build: Build, backbone: Callable[..., Backbone]) -> None:
    """As the last batch of an epoch may be."""
    network = settle(build(backbone(), 5))
    image = noise(1, 64, 96)
    output = network.train()(image)
    sum(x.square().mean() for x in maps(output)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert all(value.isfinite().all() for value in network.state_dict().values())


@each_segmenter
@any_backbone
def test_logits_move_with_the_image(build: Build, backbone: Callable[..., Backbone]) -> None:
    """Under symmetric kernels, a mirrored image gives mirrored logits."""
    network = settle(build(backbone(), 5))
    images = noise(1, 65, 97)  # cells lie upon the first column and the last
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.data = (layer.weight.data + layer.weight.data.flip(3)) / 2
    mirrored = network(images.flip(3)).logits.flip(3)
    torch.testing.assert_close(network(images).logits, mirrored, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (partial(DeepLabV3, low_level="c1"), r"\['c1'\] are not maps of the backbone; it gives \['c2_depthwise', "),
        (partial(DeepLabV3, aux="c6"), r"\['c6'\] are not maps"),
        (partial(LRASPP, low_level="c7"), r"\['c7'\] are not maps"),
        (partial(DeepLabV3, rates=(6, 0)), r"rates \[6, 0\], channels 256"),
        (partial(DeepLabV3, refinements=-1), "refinements -1"),
        (partial(LRASPP, channels=0), "channels 0"),
        (partial(LRASPP, pool_stride=(0, 1)), r"pool_stride \(0, 1\)"),
        (partial(LRASPP, pool_size=(0, 1)), r"pool_size \(0, 1\)"),
        (partial(LRASPP, gate="softmax"), "gate is 'softmax'; it must be one of"),
        *[(partial(build, input_size=(0, 3)), r"input_size \(0, 3\)") for build in (DeepLabV3, LRASPP)],
    ],
)
def test_wrong_arguments_are_refused(build: Build, match: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=match):
        build(MobileNetV2(0.35), 5)


def test_networks_without_classes_are_refused() -> None:
    with torch.device("meta"):
        for build, number in itertools.product((DeepLabV3, LRASPP), (0, -1)):
            with pytest.raises(ValueError, match=f"num_classes {number}"):
                build(MobileNetV2(0.35), number)
