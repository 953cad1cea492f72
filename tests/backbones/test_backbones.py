"""What every backbone promises, checked on all of them."""

import itertools
from collections.abc import Callable
from functools import partial

import pytest
import torch

from mbdet.backbones import Backbone, MobileNetV1, MobileNetV2, MobileNetV3
from mbdet.testing import check_backbone, check_specs, random_images, settle

BACKBONES = {
    "v1": MobileNetV1,
    "v2": MobileNetV2,
    "v2 without its last": partial(MobileNetV2, last_channels=None),
    "v3-large": partial(MobileNetV3, "large"),
    "v3-small": partial(MobileNetV3, "small"),
    "v3-large minimalistic": partial(MobileNetV3, "large", minimalistic=True),
    "v3-small minimalistic": partial(MobileNetV3, "small", minimalistic=True),
    "v3-large for detection": partial(MobileNetV3, "large", reduced_tail="detection"),
    "v3-small for segmentation": partial(MobileNetV3, "small", reduced_tail="segmentation"),
    "v3-large as torchvision dilates": partial(MobileNetV3, "large", dilation="torchvision"),
}
each_backbone = pytest.mark.parametrize("build", BACKBONES.values(), ids=BACKBONES)


@each_backbone
def test_keeps_the_contract(build: Callable[..., Backbone]) -> None:
    check_backbone(partial(build, width_mult=0.5, padding="same"))  # the padding that has code of its own


@each_backbone
@pytest.mark.parametrize("padding", ["symmetric", "same"])
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_specs_are_what_forward_returns(build: Callable[..., Backbone], output_stride: int, padding: str) -> None:
    with torch.device("meta"):
        check_specs(build(output_stride=output_stride, padding=padding))


@each_backbone
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_specs_name_the_levels(build: Callable[..., Backbone], output_stride: int) -> None:
    with torch.device("meta"):
        specs = build(output_stride=output_stride).specs
    assert {"c3", "c4", "c5"} <= set(specs)
    undilated = {"c2_depthwise": 4, "c3_first": 8, "c3": 8, "c3_depthwise": 8, "c4": 16, "c4_expand": 16, "c5": 32}
    assert all(spec.stride == min(undilated[name], output_stride) for name, spec in specs.items())


@each_backbone
def test_state_dict_does_not_depend_on_the_output_stride_or_padding(build: Callable[..., Backbone]) -> None:
    with torch.device("meta"):
        networks = [
            build(output_stride=stride, padding=padding)
            for stride, padding in itertools.product((8, 16, 32), ("symmetric", "same"))
        ]
    shapes = [{name: value.shape for name, value in network.state_dict().items()} for network in networks]
    assert all(shape == shapes[0] for shape in shapes)


@each_backbone
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_images_take_the_precision_of_the_network(build: Callable[..., Backbone], dtype: torch.dtype) -> None:
    for network in (build(width_mult=0.5).eval(), build(width_mult=0.5).eval().double()):
        assert network(random_images(network).to(dtype))["c3"].dtype == next(network.parameters()).dtype


@each_backbone
def test_normalisation_is_part_of_the_network(build: Callable[..., Backbone]) -> None:
    mean, std = (100.0, 110.0, 120.0), (50.0, 60.0, 70.0)
    network = settle(build(width_mult=0.5, mean=mean, std=std))
    plain = build(width_mult=0.5, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)).eval()
    plain.load_state_dict(network.state_dict() | {k: v for k, v in plain.state_dict().items() if "normalize" in k})
    images = random_images(network)
    normalised = (images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(network(images)["c5"], plain(normalised)["c5"], rtol=1e-3, atol=1e-3)


@each_backbone
def test_whole_numbers_as_mean_and_std_do_not_round_the_images(build: Callable[..., Backbone]) -> None:
    network = settle(build(width_mult=0.5, mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0)))
    whole = build(width_mult=0.5, mean=(127, 127, 127), std=(128, 128, 128)).eval()
    whole.load_state_dict(network.state_dict())
    images = random_images(network) * 0.9
    torch.testing.assert_close(whole(images), network(images), rtol=0, atol=0)


@each_backbone
def test_another_output_stride_is_refused(build: Callable[..., Backbone]) -> None:
    with pytest.raises(ValueError, match="output_stride is 4"):
        build(output_stride=4)
