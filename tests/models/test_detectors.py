"""What every detector promises, checked on all of them and on every backbone."""

from collections.abc import Callable
from functools import partial

import pytest
import torch

from mbdet.backbones import MobileNetV1, MobileNetV2, MobileNetV3
from mbdet.models import SSD, SSDFPN, Detector, SSDLite
from mbdet.testing import (
    check_export,
    check_gradients,
    check_image_types,
    check_independent_images,
    check_predictions,
    check_state_dict,
)

Size = tuple[int, int]
Build = Callable[..., Detector]
BACKBONES = {
    "v1": partial(MobileNetV1, 0.25),
    "v2": partial(MobileNetV2, 0.35, scale_last=True),
    **{
        " ".join(["v3", variant, *names]): partial(MobileNetV3, variant, width_mult=0.35, **options)
        for variant in ("large", "small")
        for names, options in (
            ((), {}),
            (("minimalistic",), {"minimalistic": True}),
            (("reduced",), {"reduced_tail": "detection"}),
        )
    },
}
HEADS = {
    "ssd v1": (BACKBONES["v1"], partial(SSD, extra_channels=(32, 32, 16, 16))),
    "ssd v2": (BACKBONES["v2"], partial(SSD, extra_channels=(32, 16), predictor="conv3", extra="separable")),
    "fpnlite v2": (BACKBONES["v2"], partial(SSDFPN, neck_channels=16, tower_channels=24, tower_layers=2)),
    "fpn v1": (
        BACKBONES["v1"],
        partial(SSDFPN, neck_channels=16, tower_channels=16, tower_layers=1, separable=False, share_tower=False),
    ),
    **{
        f"ssdlite {name}": (backbone, partial(SSDLite, extra_channels=(32, 32, 16, 16)))
        for name, backbone in BACKBONES.items()
    },
}
each_detector = pytest.mark.parametrize("name", HEADS)


def build(name: str, input_size: Size = (64, 96), padding: str = "symmetric") -> Detector:
    backbone, detector = HEADS[name]
    return detector(backbone(padding=padding), num_classes=3, input_size=input_size, padding=padding)


@each_detector
@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_one_prediction_per_anchor(name: str, padding: str) -> None:
    for size in [(300, 300), (33, 33), (97, 211)]:
        with torch.device("meta"):
            detector = build(name, size, padding).eval()
            output = detector(torch.zeros(2, 3, *size))
        number = detector.anchors.shape[0]
        assert output.box_deltas.shape == (2, number, 4)
        assert output.class_logits.shape == (2, number, 4)


@each_detector
def test_no_images_give_no_predictions(name: str) -> None:
    """As an evaluation has them that skips unreadable images."""
    detector = build(name).eval()
    output = detector(torch.zeros(0, 3, *detector.input_size))
    assert output.box_deltas.shape == (0, len(detector.anchors), 4)
    assert output.class_logits.shape == (0, len(detector.anchors), 4)


@each_detector
def test_images_of_another_size_are_refused(name: str) -> None:
    detector = build(name)
    for size in [(96, 64), (64, 95), (32, 96)]:
        with pytest.raises(ValueError, match=rf"\({size[0]}, {size[1]}\).*\(64, 96\)"):
            detector(torch.zeros(1, 3, *size))


@each_detector
def test_wrong_arguments_are_refused(name: str) -> None:
    backbone, detector = HEADS[name]
    with torch.device("meta"):
        with pytest.raises(ValueError, match=r"taps \['c6'\] .*'c4_expand', 'c5'"):
            detector(backbone(), num_classes=3, taps=("c4", "c6"))
        with pytest.raises(ValueError, match=r"input_size is \(32, 320\).* 33 pixels"):
            build(name, (32, 320))


@each_detector
def test_the_anchors_are_not_in_the_state_dict(name: str) -> None:
    with torch.device("meta"):
        small, large = build(name), build(name, (320, 320))
    assert small.anchors.shape != large.anchors.shape
    shapes = [{key: value.shape for key, value in detector.state_dict().items()} for detector in (small, large)]
    assert shapes[0] == shapes[1]
    inner = {f"backbone.{key}" for key in small.backbone.state_dict()}
    assert {key for key in shapes[0] if key.startswith("backbone.")} == inner


@each_detector
def test_keeps_the_contract(name: str) -> None:
    check_predictions(build(name))
    check_image_types(build(name))
    check_independent_images(build(name))
    check_gradients(build(name))
    check_state_dict(lambda: build(name))


# The backbones' own tests export every one of them.
@pytest.mark.parametrize("name", [name for name in HEADS if "minimalistic" not in name and "reduced" not in name])
def test_exports_with_a_free_batch_size(name: str) -> None:
    check_export(build(name, (64, 95), "same"))  # the padding that has code of its own
