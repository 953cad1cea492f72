"""The published detectors against their papers' and repositories' counts."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn
from torchvision.models.detection import ssdlite320_mobilenet_v3_large

from mbdet.backbones.blocks import SameConv2d
from mbdet.cost import count_madds, count_parameters
from mbdet.models import SSDLite, zoo

IMAGE = (1, 3, 320, 320)


@pytest.mark.parametrize(
    ("build", "num_classes", "parameters", "with_batch_norm", "billions"),
    [
        (zoo.ssdlite_mobilenet_v1, 80, 5_063_413, None, 1.309),
        (zoo.ssdlite_mobilenet_v2, 80, 4_286_261, None, 0.789),
        (zoo.ssdlite_mobilenet_v2, 90, 4_449_791, 4_500_543, 0.804),
        (partial(zoo.ssdlite_mobilenet_v2, width_mult=0.5), 90, 1_536_527, None, 0.272),
        (partial(zoo.ssdlite_mobilenet_v2, width_mult=0.35), 90, 929_531, None, 0.167),
        (zoo.ssdlite_mobilenet_v3_large, 90, 3_215_311, 3_248_255, 0.507),
        (partial(zoo.ssdlite_mobilenet_v3_large, reduced_tail=False), 90, 4_966_591, 5_006_735, 0.613),
        (zoo.ssdlite_mobilenet_v3_small, 90, 1_765_279, 1_785_743, 0.162),
        (partial(zoo.ssdlite_mobilenet_v3_small, reduced_tail=False), 90, 2_493_487, 2_518_271, 0.210),
    ],
)
def test_costs(
    build: Callable[..., SSDLite], num_classes: int, parameters: int, with_batch_norm: int | None, billions: float
) -> None:
    """The papers leave the batch norms out."""
    with torch.device("meta"):
        detector = build(num_classes).eval()
        assert count_parameters(detector, batch_norm=False) == parameters
        assert count_parameters(detector) == (with_batch_norm or count_parameters(detector))
        assert count_madds(detector, torch.zeros(IMAGE)) / 1e9 == pytest.approx(billions, abs=0.0005)


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
