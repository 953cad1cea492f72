"""What every detector promises, checked on all of them and on every backbone."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from mbdet.backbones import MobileNetV1, MobileNetV2, MobileNetV3
from mbdet.models import SSD, SSDFPN, Detector, SSDLite
from mbdet.types import DetectorOutput

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


def random_images(batch: int, size: Size = (64, 96)) -> Tensor:
    return torch.randint(256, (batch, 3, *size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def settled(detector: Detector) -> Detector:
    """Give the batch norms statistics that keep the activations alive, and return the network in evaluation mode."""
    for layer in detector.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    detector.train()(random_images(4, detector.input_size))
    return detector.eval()


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
def test_forward_means_the_same_in_training_and_evaluation(name: str) -> None:
    detector = build(name)
    assert detector.anchors.dtype == torch.float32
    for output in (detector.train()(random_images(2)), detector.eval()(random_images(2))):
        assert type(output) is DetectorOutput
        assert output.box_deltas.shape == (2, len(detector.anchors), 4)
        assert output.class_logits.shape == (2, len(detector.anchors), 4)


@each_detector
def test_images_of_another_size_are_refused(name: str) -> None:
    detector = build(name)
    for size in [(96, 64), (64, 95), (32, 96)]:
        with pytest.raises(ValueError, match=rf"\({size[0]}, {size[1]}\).*\(64, 96\)"):
            detector(random_images(1, size))


@each_detector
def test_wrong_arguments_are_refused(name: str) -> None:
    backbone, detector = HEADS[name]
    with torch.device("meta"):
        with pytest.raises(ValueError, match=r"taps \['c6'\] .*'c4_expand', 'c5'"):
            detector(backbone(), num_classes=3, taps=("c4", "c6"))
        with pytest.raises(ValueError, match=r"input_size is \(32, 320\).* 33 pixels"):
            build(name, (32, 320))


@each_detector
def test_backward_reaches_every_parameter(name: str) -> None:
    detector = build(name)
    sum(part.square().mean() for part in detector(random_images(4))).backward()
    unreached = [name for name, p in detector.named_parameters() if p.grad is None or not p.grad.any()]
    assert not unreached
    assert all(p.grad.isfinite().all() for p in detector.parameters())


@each_detector
def test_state_dict_round_trip(name: str) -> None:
    first, second = settled(build(name)), build(name).eval()
    assert not torch.equal(first(random_images(1)).class_logits, second(random_images(1)).class_logits)
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(first(random_images(1)), second(random_images(1)), rtol=0, atol=0)


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
def test_an_image_does_not_depend_on_its_batch(name: str) -> None:
    detector = settled(build(name))
    batch, alone = detector(random_images(3)), detector(random_images(3)[1:2])
    for part in (0, 1):
        torch.testing.assert_close(batch[part][1:2], alone[part], rtol=1e-3, atol=1e-3)


# The backbones' own tests export every one of them.
@pytest.mark.parametrize("name", [name for name in HEADS if "minimalistic" not in name and "reduced" not in name])
def test_exports_with_a_free_batch_size(name: str) -> None:
    detector = settled(build(name, (64, 95), "same"))  # the padding that has code of its own
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(detector, (random_images(2, (64, 95)),), dynamic_shapes=({0: batch},))
    for number in (1, 3):
        images = random_images(number, (64, 95))
        output = detector(images)
        assert output.class_logits.std() > 1e-3
        torch.testing.assert_close(tuple(program.module()(images)), tuple(output), rtol=1e-3, atol=1e-4)
