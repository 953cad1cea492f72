"""Our detectors in torchvision's registry, called as its reference scripts call them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import get_model, list_models
from torchvision.models._api import BUILTIN_MODELS

from mbdet.errors import InputError
from mbdet.interop import TorchvisionDetector, register_with_torchvision
from mbdet.interop.torchvision_models import DETECTORS


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave torchvision's registry as it was."""
    before = dict(BUILTIN_MODELS)
    assert not list_models(include="mbdet_*"), "importing mbdet.interop must not register anything"
    register_with_torchvision()
    yield
    BUILTIN_MODELS.clear()
    BUILTIN_MODELS.update(before)


def test_registering_can_be_repeated() -> None:
    registered = list_models(include="mbdet_*")
    assert registered == sorted(DETECTORS)
    register_with_torchvision()
    assert list_models(include="mbdet_*") == registered


@pytest.mark.parametrize("name", DETECTORS)
def test_every_model_takes_what_the_reference_script_gives(name: str) -> None:
    with torch.device("meta"):
        model = get_model(name, weights=None, weights_backbone=None, num_classes=21, trainable_backbone_layers=None)
    assert isinstance(model, TorchvisionDetector)
    assert model.network.num_classes == 20
    assert model.network.input_size == (320, 320)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_an_unknown_argument_is_refused() -> None:
    with pytest.raises(TypeError, match="num_clases"):
        get_model("mbdet_ssdlite320_mobilenet_v2", num_clases=21)


def test_weights_of_a_file_are_loaded(tmp_path: Path) -> None:
    name, path = "mbdet_ssdlite320_mobilenet_v3_small", tmp_path / "weights.pt"
    torch.manual_seed(0)
    first = get_model(name, num_classes=3)
    torch.save(first.network.state_dict(), path)
    whole, backbone = get_model(name, weights=str(path), num_classes=3), get_model(name, weights_backbone=str(path))
    torch.testing.assert_close(whole.state_dict(), first.state_dict(), rtol=0, atol=0)
    assert whole.network.num_classes == 2
    for key, value in first.network.backbone.state_dict().items():
        torch.testing.assert_close(backbone.network.backbone.state_dict()[key], value, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "trainable", "first_trained"),
    [
        ("mbdet_ssdlite320_mobilenet_v2", 6, "stem"),
        ("mbdet_ssdlite320_mobilenet_v2", 5, "blocks.1"),
        ("mbdet_ssdlite320_mobilenet_v2", 2, "blocks.13"),
        ("mbdet_ssdlite320_mobilenet_v2", 1, "last"),
        ("mbdet_ssdlite320_mobilenet_v2", 0, None),
        ("mbdet_ssdlite320_mobilenet_v3_large", 2, "blocks.12"),
        ("mbdet_ssdlite320_mobilenet_v1", 1, "blocks.12"),
        ("mbdet_ssdlite320_mobilenet_v1", 2, "blocks.11"),
    ],
)
def test_the_last_stages_are_trained(name: str, trainable: int, first_trained: str | None) -> None:
    with torch.device("meta"):
        network = get_model(name, trainable_backbone_layers=trainable).network
    trained = [key for key, parameter in network.backbone.named_parameters() if parameter.requires_grad]
    frozen = [key for key, parameter in network.backbone.named_parameters() if not parameter.requires_grad]
    assert list(dict(network.backbone.named_parameters())) == frozen + trained
    assert not trained if first_trained is None else trained[0].startswith(f"{first_trained}.")
    assert all(parameter.requires_grad for parameter in nn.ModuleList(network.class_heads).parameters())


def test_more_stages_than_there_are_are_refused() -> None:
    with torch.device("meta"), pytest.raises(InputError, match="trainable_backbone_layers is 7; give 0 to 6"):
        get_model("mbdet_ssdlite320_mobilenet_v2", trainable_backbone_layers=7)
