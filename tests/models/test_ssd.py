"""SSD with whole convolutions."""

import itertools
from typing import Any

import pytest
import torch
from torch import nn

from mbdet.backbones import MobileNetV1, MobileNetV2
from mbdet.models import SSD, SSDLite


def test_ssdlite_is_the_separable_one() -> None:
    """Same names, same weights from the same seed, same predictions."""
    options: dict[str, Any] = {"num_classes": 3, "input_size": (64, 96), "extra_channels": (32, 16)}
    torch.manual_seed(0)
    general = SSD(MobileNetV2(0.35), predictor="separable", extra="separable", **options).eval()
    torch.manual_seed(0)
    lite = SSDLite(MobileNetV2(0.35), **options).eval()
    assert general.state_dict().keys() == lite.state_dict().keys()
    images = torch.full((1, 3, 64, 96), 128, dtype=torch.uint8)
    torch.testing.assert_close(general(images), lite(images), rtol=0, atol=0)


@pytest.mark.parametrize(("predictor", "kernel"), [("conv1", 1), ("conv3", 3)])
@pytest.mark.parametrize("extra", ["conv", "separable"])
def test_options_choose_the_convolutions(predictor: Any, kernel: int, extra: Any) -> None:
    with torch.device("meta"):
        detector = SSD(MobileNetV2(0.35), 3, predictor=predictor, extra=extra)
    for head in itertools.chain(detector.box_heads, detector.class_heads):
        (layer,) = (layer for layer in head.modules() if isinstance(layer, nn.Conv2d))
        assert layer.kernel_size == (kernel, kernel)
        assert layer.bias is not None
    for layers in detector.extras:
        strided = [layer for layer in layers.modules() if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2)]
        assert [layer.groups for layer in strided] == [strided[0].in_channels if extra == "separable" else 1]


@pytest.mark.parametrize("predictor", ["conv1", "conv3", "separable"])
def test_class_bias_starts_at_the_given_value(predictor: Any) -> None:
    detector = SSD(MobileNetV1(0.25), 3, predictor=predictor, class_bias_init=-4.6)
    for head in detector.class_heads:
        assert (head.last.bias == -4.6).all()
    for head in detector.box_heads:
        assert not head.last.bias.any()


@pytest.mark.parametrize("option", ["predictor", "extra"])
def test_misspelt_options_are_refused(option: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=rf"{option} is 'seperable'; it must be one of .*conv"):
        SSD(MobileNetV1(0.25), 3, **{option: "seperable"})
