"""The published detectors against what their repositories say; their costs are in test_published_counts.py."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torchvision.models.detection import ssdlite320_mobilenet_v3_large

from mbdet.backbones.blocks import SameConv2d
from mbdet.cost import count_parameters
from mbdet.models import SSDLite, zoo

IMAGE = (1, 3, 320, 320)


def test_torchvision_s_detector() -> None:
    """3,440,060 parameters, its own count; and what shapes its predictions."""
    with torch.device("meta"):
        ours = zoo.torchvision_ssdlite_mobilenet_v3_large().eval()
        theirs = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)
        output = ours(torch.zeros(IMAGE))
    assert count_parameters(ours) == count_parameters(theirs) == 3_440_060
    assert output.class_logits.shape == (1, 3234, 91)
    constants = [
        {(n.eps, n.momentum) for n in net.modules() if isinstance(n, nn.BatchNorm2d)} for net in (ours, theirs)
    ]
    assert constants[0] == constants[1] == {(1e-3, 0.03)}


@pytest.mark.parametrize(
    "build",
    [
        zoo.ssdlite_mobilenet_v1,
        zoo.ssdlite_mobilenet_v2,
        zoo.ssdlite_mobilenet_v3_large,
        zoo.ssdlite_mobilenet_v3_small,
    ],
)
def test_constants_of_the_tf_detectors(build: Callable[..., SSDLite]) -> None:
    with torch.device("meta"):
        detector = build(3, (300, 300), width_mult=0.05)
    strided = [layer for layer in detector.modules() if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2)]
    assert all(isinstance(layer, SameConv2d) for layer in strided)
    assert len(strided) == 5 + 4
    assert {layer.eps for layer in detector.modules() if isinstance(layer, nn.BatchNorm2d)} == {1e-3}
    assert len(detector.anchors) == 1917
    assert [extra.expand.conv.out_channels for extra in detector.extras] == [25, 16, 16, 16]
    assert [extra.reduce.conv.out_channels for extra in detector.extras] == [16, 16, 16, 16]
    assert [extra.depthwise.conv.out_channels for extra in detector.extras] == [16, 16, 16, 16]
