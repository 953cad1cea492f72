"""torchvision's segmentation networks, layer for layer under our names."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large, deeplabv3_resnet50, lraspp_mobilenet_v3_large

from mbdet.backbones import MobileNetV3
from mbdet.backbones.base import IMAGENET_MEAN, IMAGENET_STD, TF_MEAN, TF_STD
from mbdet.cost import count_madds, count_parameters
from mbdet.models import LRASPP, DeepLabV3, Segmenter
from mbdet.weights import load_backbone_weights, load_weights
from mbdet.weights.torchvision_segmentation import from_deeplabv3, from_lraspp, is_deeplabv3, is_lraspp

Save = Callable[[dict[str, Tensor], str], Path]
Randomised = Callable[..., nn.Module]


def backbone() -> MobileNetV3:
    return MobileNetV3("large", output_stride=16, dilation="torchvision", mean=TF_MEAN, std=TF_STD)


def lraspp() -> Segmenter:
    return LRASPP(backbone(), 21, pool_size=None, low_level="c3_first", gate_bias=False, align_corners=False)


def deeplabv3(aux: str | None = "c3_first") -> Segmenter:
    return DeepLabV3(backbone(), 21, rates=(12, 24, 36), refinements=1, aux=aux, dropout=0.5, align_corners=False)


def normalised(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(value, dtype=torch.float64).view(3, 1, 1) for value in (IMAGENET_MEAN, IMAGENET_STD))
    return (images - mean) / std


@pytest.mark.parametrize("size", [(96, 128), (65, 97)])
@torch.no_grad()
def test_lraspp_equals_torchvision(size: tuple[int, int], save: Save, randomised: Randomised) -> None:
    theirs = randomised(lraspp_mobilenet_v3_large(weights=None, weights_backbone=None)).double()
    ours = lraspp().double().eval()
    load_weights(ours, save(theirs.state_dict(), "w.pth"))
    images = torch.randint(256, (2, 3, *size), dtype=torch.uint8)
    output = ours(images)
    expected = theirs(normalised(images))["out"]
    assert expected.std() > 0.1
    torch.testing.assert_close(output.logits, expected, rtol=1e-5, atol=1e-5)
    assert output.aux_logits is None


@pytest.mark.parametrize("aux", [True, False])
@torch.no_grad()
def test_deeplabv3_equals_torchvision(aux: bool, save: Save, randomised: Randomised) -> None:
    theirs = deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, aux_loss=aux)
    theirs = randomised(theirs).double()
    ours = deeplabv3("c3_first" if aux else None).double().eval()
    load_weights(ours, save(theirs.state_dict(), "w.pth"))
    images = torch.randint(256, (2, 3, 65, 97), dtype=torch.uint8)
    output, expected = ours(images), theirs(normalised(images))
    assert expected["out"].std() > 0.1
    torch.testing.assert_close(output.logits, expected["out"], rtol=1e-5, atol=1e-5)
    assert (output.aux_logits is not None) == aux
    if aux:
        torch.testing.assert_close(output.aux_logits, expected["aux"], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_training_equals_torchvision(save: Save, randomised: Randomised) -> None:
    """Batch norms in training mode, and what becomes of their statistics; dropout left out."""
    theirs = randomised(deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, aux_loss=True)).double()
    ours = deeplabv3().double()
    load_weights(ours, save(theirs.state_dict(), "w.pth"))
    for network in (ours.train(), theirs.train()):
        for layer in network.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0
    images = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    torch.testing.assert_close(ours(images).logits, theirs(normalised(images))["out"], rtol=1e-5, atol=1e-5)
    after = from_deeplabv3(theirs.state_dict(), 21)
    torch.testing.assert_close({name: ours.state_dict()[name] for name in after}, after, rtol=1e-5, atol=1e-5)


def test_the_auxiliary_head_is_left_out_where_there_is_none(save: Save, refused: Any) -> None:
    """But never made up."""
    theirs = deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, aux_loss=True).state_dict()
    network = deeplabv3(aux=None)
    load_weights(network, save(theirs, "w.pth"))
    torch.testing.assert_close(network.classifier.weight.data, theirs["classifier.4.weight"])
    without = {name: value for name, value in theirs.items() if not name.startswith("aux_classifier.")}
    with_aux = deeplabv3()
    with refused(with_aux, r"missing: aux_head\."):
        load_weights(with_aux, save(without, "w.pth"))


@pytest.mark.parametrize("build", [lraspp_mobilenet_v3_large, deeplabv3_mobilenet_v3_large])
def test_a_segmenter_gives_its_backbone(build: Callable[..., nn.Module], save: Save, refused: Any) -> None:
    state = build(weights=None, weights_backbone=None).state_dict()
    path, network, other = save(state, "w.pth"), MobileNetV3(), MobileNetV3(bn_eps=1e-5)
    load_backbone_weights(network, path)
    torch.testing.assert_close(network.last.conv.weight.data, state["backbone.16.0.weight"])
    torch.testing.assert_close(network.blocks[3].se.expand.bias.data, state["backbone.4.block.2.fc2.bias"])
    assert network.normalize.mean.flatten().tolist() == pytest.approx(IMAGENET_MEAN)
    with refused(other, r"torchvision's \S+ weights need bn_eps: 0\.001"):
        load_backbone_weights(other, path)


def test_constants_of_backbone_and_head_are_told_apart(save: Save, refused: Any) -> None:
    path = save(lraspp_mobilenet_v3_large(weights=None, weights_backbone=None).state_dict(), "w.pth")
    head = {"pool_size": None, "low_level": "c3_first", "gate_bias": False}
    for network, message in (
        (LRASPP(MobileNetV3(bn_eps=1e-5), 21, **head), r"bn_eps: 0\.001 in the backbone, the network has 1e-05"),
        (LRASPP(MobileNetV3(), 21, bn_eps=1e-3, **head), r"bn_eps: 1e-05 in the heads, the network has 0\.001"),
    ):
        with refused(network, f"torchvision's LR-ASPP weights need {message}"):
            load_weights(network, path)


@pytest.mark.parametrize(
    ("build", "parameters", "billions"), [(lraspp, 3_221_538, 2.086), (deeplabv3, 11_029_328, 10.452)]
)
def test_costs_as_torchvision_states(build: Callable[[], Segmenter], parameters: int, billions: float) -> None:
    with torch.device("meta"):
        network = build().eval()
        madds = count_madds(network, torch.zeros(1, 3, 520, 520))
    assert count_parameters(network) == parameters
    assert round(madds / 1e9, 3) == billions


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
    assert convert(strangers, 21) == strangers
