"""torchvision's segmentation networks, layer for layer under our names."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large, deeplabv3_resnet50, lraspp_mobilenet_v3_large

from mbdet.backbones import MobileNetV3
from mbdet.backbones.base import IMAGENET_MEAN, IMAGENET_STD
from mbdet.cost import count_parameters
from mbdet.models import LRASPP, DeepLabV3, Segmenter
from mbdet.weights.torchvision_segmentation import from_deeplabv3, from_lraspp, is_deeplabv3, is_lraspp

Randomised = Callable[..., nn.Module]


def backbone() -> MobileNetV3:
    return MobileNetV3("large", output_stride=16, dilation="torchvision")


def lraspp() -> Segmenter:
    return LRASPP(backbone(), 21, pool_size=None, low_level="c3_first", gate_bias=False, align_corners=False)


def deeplabv3(aux: str | None = "c3_first") -> Segmenter:
    return DeepLabV3(backbone(), 21, rates=(12, 24, 36), refinements=1, aux=aux, dropout=0.5, align_corners=False)


def normalised(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(value, dtype=torch.float64).view(3, 1, 1) for value in (IMAGENET_MEAN, IMAGENET_STD))
    return (images - mean) / std


def load(network: Segmenter, state: dict[str, Tensor]) -> None:
    buffers = {f"backbone.normalize.{name}" for name in ("mean", "std")}
    missing, unexpected = network.load_state_dict(state, strict=False)
    assert set(missing) == buffers
    assert not unexpected


@pytest.mark.parametrize("size", [(96, 128), (65, 97)])
@torch.no_grad()
def test_lraspp_equals_torchvision(size: tuple[int, int], randomised: Randomised) -> None:
    theirs = randomised(lraspp_mobilenet_v3_large(weights=None, weights_backbone=None)).double()
    ours = lraspp().double().eval()
    load(ours, from_lraspp(theirs.state_dict()))
    images = torch.randint(256, (2, 3, *size), dtype=torch.uint8)
    output = ours(images)
    expected = theirs(normalised(images))["out"]
    assert expected.std() > 0.1
    torch.testing.assert_close(output.logits, expected, rtol=1e-5, atol=1e-5)
    assert output.aux_logits is None


@pytest.mark.parametrize("aux", [True, False])
@torch.no_grad()
def test_deeplabv3_equals_torchvision(aux: bool, randomised: Randomised) -> None:
    theirs = deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, aux_loss=aux)
    theirs = randomised(theirs).double()
    ours = deeplabv3("c3_first" if aux else None).double().eval()
    load(ours, from_deeplabv3(theirs.state_dict()))
    images = torch.randint(256, (2, 3, 65, 97), dtype=torch.uint8)
    output, expected = ours(images), theirs(normalised(images))
    assert expected["out"].std() > 0.1
    torch.testing.assert_close(output.logits, expected["out"], rtol=1e-5, atol=1e-5)
    assert (output.aux_logits is not None) == aux
    if aux:
        torch.testing.assert_close(output.aux_logits, expected["aux"], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_training_equals_torchvision(randomised: Randomised) -> None:
    """Batch norms in training mode, and what becomes of their statistics; dropout left out."""
    theirs = randomised(deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, aux_loss=True)).double()
    ours = deeplabv3().double()
    load(ours, from_deeplabv3(theirs.state_dict()))
    for network in (ours.train(), theirs.train()):
        for layer in network.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0
    images = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    torch.testing.assert_close(ours(images).logits, theirs(normalised(images))["out"], rtol=1e-5, atol=1e-5)
    after = from_deeplabv3(theirs.state_dict())
    torch.testing.assert_close({name: ours.state_dict()[name] for name in after}, after, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("build", "parameters"), [(lraspp, 3_221_538), (deeplabv3, 11_029_328)])
def test_parameters_as_torchvision_states(build: Callable[[], Segmenter], parameters: int) -> None:
    with torch.device("meta"):
        assert count_parameters(build()) == parameters


def test_each_is_told_from_the_others() -> None:
    with torch.device("meta"):
        networks = {
            "lraspp": lraspp_mobilenet_v3_large(weights=None, weights_backbone=None),
            "deeplabv3": deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None),
            "resnet": deeplabv3_resnet50(weights=None, weights_backbone=None),
            "ours": deeplabv3(),
        }
    tensors = {name: network.state_dict() for name, network in networks.items()}
    assert [name for name, state in tensors.items() if is_lraspp(state)] == ["lraspp"]
    assert [name for name, state in tensors.items() if is_deeplabv3(state)] == ["deeplabv3"]


@pytest.mark.parametrize("convert", [from_lraspp, from_deeplabv3])
def test_a_tensor_without_a_place_keeps_its_name(convert: Callable[..., dict[str, Tensor]]) -> None:
    strangers = {"classifier.9.weight": torch.zeros(1), "neck.bias": torch.zeros(1)}
    assert convert(strangers) == strangers
