"""Loading torchvision's and our own weights, completely or not at all."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import mobilenet_v2

from mbdet.backbones import MobileNetV2
from mbdet.backbones.base import IMAGENET_MEAN, IMAGENET_STD, TF_MEAN, TF_STD
from mbdet.errors import InputError
from mbdet.models import SSDFPN, SSDLite
from mbdet.weights import PUBLISHED, PublishedWeights, load_backbone_weights, load_weights
from mbdet.weights.origin import TORCHVISION_V2

Save = Callable[[dict[str, Tensor], str], Path]
Refused = Callable[..., AbstractContextManager[None]]
Randomised = Callable[..., Any]

SUFFIXES = [".pth", ".pt", ".safetensors", ".npz"]


def detector(num_classes: int = 3, **backbone: object) -> SSDLite:
    return SSDLite(MobileNetV2(0.35, **backbone), num_classes, (64, 64), extra_channels=(32, 32)).eval()


def normalised(images: Tensor) -> Tensor:
    return (images - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_STD).view(3, 1, 1)


@pytest.fixture
def images() -> Tensor:
    return torch.randint(256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.fixture(scope="module")
def torchvision_weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    state = mobilenet_v2(weights=None).state_dict()
    for name, value in state.items():
        if name.endswith("running_mean"):
            value.normal_(std=0.2)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 2.0)
    return state


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_torchvision_weights(suffix: str, torchvision_weights: dict[str, Tensor], save: Save, images: Tensor) -> None:
    theirs = mobilenet_v2(weights=None).eval()
    theirs.load_state_dict(torchvision_weights)
    ours = MobileNetV2(mean=TF_MEAN, std=TF_STD).eval()
    load_backbone_weights(ours, save(torchvision_weights, f"w{suffix}"))
    assert ours.normalize.mean.flatten().tolist() == pytest.approx(IMAGENET_MEAN)
    assert ours.normalize.std.flatten().tolist() == pytest.approx(IMAGENET_STD)
    with torch.no_grad():
        torch.testing.assert_close(ours(images)["c5"], theirs.features(normalised(images)), rtol=1e-4, atol=1e-5)


def test_torchvision_weights_by_name(
    torchvision_weights: dict[str, Tensor], save: Save, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url = save(torchvision_weights, "v2.pth").as_uri()
    monkeypatch.setitem(
        PUBLISHED, "torchvision/mobilenet_v2.imagenet1k_v1", PublishedWeights(url, "", "", "", TORCHVISION_V2, "")
    )
    network = MobileNetV2()
    load_backbone_weights(network, "torchvision/mobilenet_v2.imagenet1k_v1")
    torch.testing.assert_close(network.stem.conv.weight.data, torchvision_weights["features.0.0.weight"])


def test_published_flat_weights_on_a_real_image(real_data: Path, coco_images: Callable[[int], Tensor]) -> None:
    path = real_data / "weights" / "torch_mobilenet_v2_imagenet_features.npz"
    theirs = mobilenet_v2(weights=None).features.eval()
    with np.load(path) as arrays:  # layers in the same order, under older names
        values = [torch.from_numpy(arrays[name]) for name in arrays.files]
    theirs.load_state_dict(dict(zip(theirs.state_dict(), values, strict=True)))
    ours = MobileNetV2().eval()
    load_backbone_weights(ours, path)
    images = coco_images(1)
    with torch.no_grad():
        torch.testing.assert_close(ours(images)["c5"], theirs(normalised(images)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"padding": "same"}, "padding: symmetric"),
        ({"bn_eps": 1e-3}, "bn_eps: 1e-05"),
        ({"width_mult": 0.5}, r"of another shape: stem\.conv\.weight is \(32, 3, 3, 3\), not \(16, 3, 3, 3\)"),
    ],
)
def test_torchvision_weights_for_another_network(
    options: dict[str, Any], match: str, torchvision_weights: dict[str, Tensor], save: Save, refused: Refused
) -> None:
    network = MobileNetV2(**options)
    with refused(network, rf"w\.pth: torchvision's MobileNetV2 .*{match}"):
        load_backbone_weights(network, save(torchvision_weights, "w.pth"))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda state: state.pop("features.18.1.bias"), r"1 missing: last\.bn\.bias"),
        (lambda state: state.update({"features.19.weight": torch.zeros(1)}), r"not in the network: features\.19"),
        (lambda state: state.update({"features.3.conv.9.weight": torch.zeros(1)}), r"not in the network: blocks\.2\.9"),
    ],
)
def test_torchvision_weights_that_are_not_complete(
    change: Callable[[dict[str, Tensor]], object],
    match: str,
    torchvision_weights: dict[str, Tensor],
    save: Save,
    refused: Refused,
) -> None:
    state = dict(torchvision_weights)
    change(state)
    network = MobileNetV2()
    with refused(network, match):
        load_backbone_weights(network, save(state, "w.pth"))


def test_a_classifier_is_no_detector(torchvision_weights: dict[str, Tensor], save: Save, refused: Refused) -> None:
    network = SSDLite(MobileNetV2(), 3, (64, 64))
    with refused(
        network, r"torchvision's MobileNetV2 weights are not those of a whole detector; .*--model\.backbone_weights"
    ):
        load_weights(network, save(torchvision_weights, "w.pth"))


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".ckpt"])
def test_own_detector(suffix: str, save: Save, images: Tensor, randomised: Randomised) -> None:
    first, second = randomised(detector(mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0))), detector()
    load_weights(second, save(first.state_dict(), f"w{suffix}"))
    torch.testing.assert_close(second(images), first(images), rtol=0, atol=0)


def test_own_pyramid_detector(save: Save, images: Tensor, randomised: Randomised) -> None:
    build = partial(SSDFPN, num_classes=3, input_size=(64, 64), neck_channels=16, tower_channels=16, tower_layers=1)
    first, second = randomised(build(MobileNetV2(0.35)).eval()), build(MobileNetV2(0.35)).eval()
    load_weights(second, save(first.state_dict(), "w.safetensors"))
    torch.testing.assert_close(second(images), first(images), rtol=0, atol=0)


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
@pytest.mark.parametrize("whole", [True, False])
def test_own_backbone(suffix: str, whole: bool, save: Save, images: Tensor, randomised: Randomised) -> None:
    """Out of a detector with other classes, or from a file of its own."""
    first, second = randomised(detector(num_classes=7)), MobileNetV2(0.35).eval()
    load_backbone_weights(second, save((first if whole else first.backbone).state_dict(), f"w{suffix}"))
    torch.testing.assert_close(second(images), first.backbone(images), rtol=0, atol=0)


def test_a_backbone_is_no_detector(save: Save, refused: Refused) -> None:
    network = detector()
    with refused(network, r"w\.pt: its weights are not those of a whole detector"):
        load_weights(network, save(network.backbone.state_dict(), "w.pt"))


@pytest.mark.parametrize(
    ("width_mult", "num_classes", "extra_channels", "match"),
    [
        (0.35, 5, (32, 32), r"class_heads\.0\.pointwise\.weight is \(12, .*, not \(18, .*num_classes"),
        (0.5, 3, (32, 32), r"of another shape: backbone\..* more"),
        (0.35, 3, (32,), r"not in the network: box_heads\.3"),
        (0.35, 3, (32, 32, 32), r"missing: box_heads\.4"),
    ],
)
def test_own_weights_of_another_network(
    width_mult: float, num_classes: int, extra_channels: tuple[int, ...], match: str, save: Save, refused: Refused
) -> None:
    network = SSDLite(MobileNetV2(width_mult), num_classes, (64, 64), extra_channels=extra_channels)
    with refused(network, rf"w\.pt: its weights do not fit this network: .*{match}"):
        load_weights(network, save(detector().state_dict(), "w.pt"))


def test_half_precision_weights_load_as_the_network_is(save: Save) -> None:
    first, second = detector(), detector()
    load_weights(second, save({name: value.half() for name, value in first.state_dict().items()}, "w.safetensors"))
    assert all(parameter.dtype == torch.float32 for parameter in second.parameters())
    torch.testing.assert_close(dict(second.named_parameters()), dict(first.named_parameters()), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("metadata", [{"padding": "valid"}, {"bn_eps": "small"}, {"hidden_act": "swallow"}])
def test_notes_that_make_no_sense(metadata: dict[str, str], tmp_path: Path, refused: Refused) -> None:
    network = MobileNetV2(0.35)
    save_file(network.state_dict(), tmp_path / "w.safetensors", metadata)
    with refused(network, r"w\.safetensors: its metadata says .*(valid|small|swallow).*no padding or bn_eps"):
        load_backbone_weights(network, tmp_path / "w.safetensors")


@pytest.mark.parametrize("load", [load_weights, load_backbone_weights])
def test_no_such_file(load: Callable[[nn.Module, str], None]) -> None:
    with pytest.raises(InputError, match=r"runs/none\.ckpt: no such weight file"):
        load(detector(), "runs/none.ckpt")
