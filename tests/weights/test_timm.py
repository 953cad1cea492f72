"""timm's MobileNets through our maps, against timm itself."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mbdet.backbones import Backbone, MobileNetV1, MobileNetV2, MobileNetV3
from mbdet.backbones.base import IMAGENET_MEAN, TF_MEAN
from mbdet.errors import InputError
from mbdet.models import Classifier
from mbdet.models.classifier import HiddenAct
from mbdet.weights import PUBLISHED, PublishedWeights, load_backbone_weights, load_weights
from mbdet.weights.origin import TIMM

Save = Callable[[dict[str, Tensor], str], Path]
Refused = Callable[..., AbstractContextManager[None]]
TORCH = {"padding": "symmetric", "bn_eps": 1e-5}
SAME = {"padding": "same", "bn_eps": 1e-3}


class Case(NamedTuple):
    backbone: type[Backbone]
    options: dict[str, Any]
    hidden: int | None = None
    act: HiddenAct = "hard_swish"


CASES = {
    "mobilenetv1_100.ra4_e3600_r224_in1k": Case(MobileNetV1, TORCH),
    "mobilenetv1_100h.ra4_e3600_r224_in1k": Case(MobileNetV1, TORCH | {"last_channels": 1024}),
    "mobilenetv1_125.ra4_e3600_r224_in1k": Case(MobileNetV1, TORCH | {"width_mult": 1.25}),
    "mobilenetv2_035": Case(MobileNetV2, {"width_mult": 0.35}),
    "mobilenetv2_050.lamb_in1k": Case(MobileNetV2, {"width_mult": 0.5}),
    "mobilenetv2_075": Case(MobileNetV2, {"width_mult": 0.75}),
    "mobilenetv2_100.ra_in1k": Case(MobileNetV2, {}),
    "mobilenetv2_140.ra_in1k": Case(MobileNetV2, {"width_mult": 1.4}),
    "mobilenetv3_large_075": Case(MobileNetV3, TORCH | {"width_mult": 0.75}, 1280),
    "mobilenetv3_large_100.ra_in1k": Case(MobileNetV3, TORCH, 1280),
    "mobilenetv3_large_100.ra4_e3600_r224_in1k": Case(MobileNetV3, TORCH, 1280),
    "mobilenetv3_large_100.miil_in21k_ft_in1k": Case(MobileNetV3, TORCH, 1280),
    "mobilenetv3_small_075.lamb_in1k": Case(MobileNetV3, TORCH | {"variant": "small", "width_mult": 0.75}, 1024),
    "mobilenetv3_small_100.lamb_in1k": Case(MobileNetV3, TORCH | {"variant": "small"}, 1024),
    "tf_mobilenetv3_large_075.in1k": Case(MobileNetV3, SAME | {"width_mult": 0.75}, 1280),
    "tf_mobilenetv3_large_100.in1k": Case(MobileNetV3, SAME, 1280),
    "tf_mobilenetv3_large_minimal_100.in1k": Case(MobileNetV3, SAME | {"minimalistic": True}, 1280, "relu"),
    "tf_mobilenetv3_small_075.in1k": Case(MobileNetV3, SAME | {"variant": "small", "width_mult": 0.75}, 1024),
    "tf_mobilenetv3_small_100.in1k": Case(MobileNetV3, SAME | {"variant": "small"}, 1024),
    "tf_mobilenetv3_small_minimal_100.in1k": Case(
        MobileNetV3, SAME | {"variant": "small", "minimalistic": True}, 1024, "relu"
    ),
}


def write_hub_folder(network: nn.Module, folder: Path) -> Path:
    """Write what the hub offers of a model, with timm's own writer."""
    timm.models.save_for_hf(network, folder, safe_serialization=True)
    return folder / "model.safetensors"


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_features_and_logits(
    name: str,
    images: Tensor,
    tmp_path: Path,
    randomised: Callable[..., Any],
    normalise: Callable[..., Any],
) -> None:
    case = CASES[name]
    theirs = randomised(timm.create_model(name, pretrained=False, num_classes=7))
    path = write_hub_folder(theirs, tmp_path)
    options = {"mean": (1.0, 2.0, 3.0), "std": (4.0, 5.0, 6.0)} | case.options
    network = Classifier(case.backbone(**options), 7, hidden_channels=case.hidden, hidden_act=case.act).eval()
    backbone = case.backbone(**options).eval()
    load_weights(network, path)
    load_backbone_weights(backbone, path)
    inputs = normalise(images, theirs.pretrained_cfg["mean"], theirs.pretrained_cfg["std"])
    expected = theirs.forward_features(inputs)
    scale = float(expected.abs().max())
    torch.testing.assert_close(backbone(images)["c5"] / scale, expected / scale, rtol=1e-5, atol=1e-5)
    logits = theirs(inputs)
    scale = float(logits.abs().max())
    torch.testing.assert_close(network(images) / scale, logits / scale, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "mobilenetv3_large_150d", "mobilenetv2_110d"])
def test_networks_of_timms_own(name: str, tmp_path: Path, refused: Refused) -> None:
    path = write_hub_folder(timm.create_model(name, pretrained=False), tmp_path)
    width = {"050": 0.5, "50d": 1.5, "10d": 1.1}[name[-3:]]
    variant = {"variant": "small"} if "small" in name else {}
    network = MobileNetV2(width) if "v2" in name else MobileNetV3(width_mult=width, bn_eps=1e-5, **variant)
    with refused(
        network, r"timm's MobileNetV\d weights do not fit this network: .*(not in the network|of another shape)"
    ):
        load_backbone_weights(network, path)


def test_a_network_that_would_fit_but_computes_something_else(tmp_path: Path, refused: Refused) -> None:
    path = write_hub_folder(timm.create_model("mobilenetv3_rw", pretrained=False), tmp_path)
    network = MobileNetV3()
    with refused(network, r"safetensors: these weights are timm's mobilenetv3_rw"):
        load_backbone_weights(network, path)


@pytest.mark.parametrize(("minimal", "act", "needed"), [("", "relu", "hard_swish"), ("minimal_", "hard_swish", "relu")])
def test_another_activation_of_the_hidden_layer(
    minimal: str, act: HiddenAct, needed: str, tmp_path: Path, refused: Refused
) -> None:
    path = write_hub_folder(timm.create_model(f"tf_mobilenetv3_small_{minimal}100", pretrained=False), tmp_path)
    network = Classifier(
        MobileNetV3("small", bool(minimal), padding="same"), 1000, hidden_channels=1024, hidden_act=act
    )
    with refused(network, f"timm's MobileNetV3 weights need hidden_act: {needed}, the network has {act}"):
        load_weights(network, path)


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("tf_mobilenetv3_small_100", TORCH, "padding: same"),
        ("tf_mobilenetv3_small_100", SAME | {"bn_eps": 1e-5}, r"bn_eps: 0\.001"),
        ("mobilenetv3_small_100", SAME, "padding: symmetric"),
        ("mobilenetv3_small_100", TORCH | {"bn_eps": 1e-3}, "bn_eps: 1e-05"),
    ],
)
def test_the_two_conventions_of_v3(
    name: str, options: dict[str, Any], match: str, tmp_path: Path, refused: Refused
) -> None:
    path = write_hub_folder(timm.create_model(name, pretrained=False), tmp_path)
    network = MobileNetV3("small", **options)
    with refused(network, rf"timm's MobileNetV3 weights need {match}"):
        load_backbone_weights(network, path)


def test_v3_without_its_config_is_refused(save: Save, refused: Refused) -> None:
    path = save(timm.create_model("mobilenetv3_small_100", pretrained=False).state_dict(), "w.pth")
    network = MobileNetV3("small", bn_eps=1e-5)
    with refused(network, r"w\.pth: .*do not say how they pad and normalise; put the config\.json"):
        load_backbone_weights(network, path)


def test_v3_is_known_by_its_checksum_too(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    path = save(timm.create_model("mobilenetv3_small_100", pretrained=False).state_dict(), "w.pth")
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    monkeypatch.setitem(PUBLISHED, "ours/v3", PublishedWeights("https://", checksum, "", "", TIMM, ""))
    network = MobileNetV3("small", bn_eps=1e-5, mean=TF_MEAN)
    load_backbone_weights(network, path)
    assert network.normalize.mean.flatten().tolist() == pytest.approx(IMAGENET_MEAN)


@pytest.mark.parametrize(
    ("name", "network", "mean"),
    [("mobilenetv1_100", MobileNetV1, TF_MEAN), ("mobilenetv2_100", MobileNetV2, IMAGENET_MEAN)],
)
def test_v1_and_v2_have_one_convention_each(name: str, network: type[Backbone], mean: Any, save: Save) -> None:
    ours: Any = network(bn_eps=1e-5, mean=(1.0, 2.0, 3.0))
    load_backbone_weights(ours, save(timm.create_model(name, pretrained=False).state_dict(), "w.pth"))
    assert ours.normalize.mean.flatten().tolist() == pytest.approx(mean)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"architecture": "x", "pretrained_cfg": {"mean": 3}}',
        '{"architecture": "x", "pretrained_cfg": {"mean": [0.5, 0.5], "std": [0.5, 0.5, 0.5]}}',
        '{"architecture": 1, "model_args": 2}',
    ],
)
def test_a_config_of_something_else(content: str, save: Save) -> None:
    path = save(timm.create_model("mobilenetv2_035", pretrained=False).state_dict(), "w.pth")
    path.with_name("config.json").write_text(content)
    with pytest.raises(InputError, match=r"config\.json: not a config of timm's hub; move it away from w\.pth"):
        load_backbone_weights(MobileNetV2(0.35), path)


@pytest.mark.parametrize("shape", [(), (1024,)])
def test_a_tensor_of_a_shape_that_no_network_has(shape: tuple[int, ...], tmp_path: Path, refused: Refused) -> None:
    theirs = timm.create_model("mobilenetv3_small_100", pretrained=False)
    path = write_hub_folder(theirs, tmp_path)
    save_file({**theirs.state_dict(), "conv_head.weight": torch.zeros(shape)}, path)
    network = Classifier(MobileNetV3("small", bn_eps=1e-5), 1000, hidden_channels=1024)
    with refused(network, r"safetensors: named as timm's MobileNetV3 weights, but not shaped like them \(.*\); fetch"):
        load_weights(network, path)


def test_options_in_the_config(tmp_path: Path, refused: Refused) -> None:
    """Somebody's own model, made with timm's arguments."""
    path = write_hub_folder(timm.create_model("mobilenetv2_035", pretrained=False), tmp_path)
    config = path.with_name("config.json")
    content = json.loads(config.read_text()) | {"model_args": {"pad_type": "same", "bn_eps": 1e-3}}
    config.write_text(json.dumps(content))
    network = MobileNetV2(0.35, padding="same")
    with refused(network, r"need bn_eps: 0\.001"):
        load_backbone_weights(network, path)
    load_backbone_weights(MobileNetV2(0.35, padding="same", bn_eps=1e-3), path)
