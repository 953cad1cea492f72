"""slim's classifiers and DeepLab's backbone, in the forms that TF's tools write."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mbdet.backbones import MobileNetV1, MobileNetV2, MobileNetV3
from mbdet.backbones.base import TF_MEAN, TF_STD
from mbdet.models import Classifier
from mbdet.weights import load_backbone_weights, load_weights

Save = Callable[[dict[str, Tensor], str], Path]
Refused = Callable[..., AbstractContextManager[None]]

NETWORKS = {
    "v1": (1, lambda: MobileNetV1(0.25, padding="same", mean=TF_MEAN, std=TF_STD), None),
    "v2": (2, lambda: MobileNetV2(0.35, padding="same", bn_eps=1e-3, mean=TF_MEAN, std=TF_STD), None),
    "v3_large": (3, lambda: MobileNetV3(width_mult=0.35, padding="same", mean=TF_MEAN, std=TF_STD), 1280),
    "v3_small": (3, lambda: MobileNetV3("small", width_mult=0.75, padding="same", mean=TF_MEAN, std=TF_STD), 1024),
}


@pytest.fixture
def as_slim(tf_writer: Any) -> Callable[..., dict[str, Tensor]]:
    """Return a function that writes a classifier as TF's tools do."""

    def write(network: Any, generation: int, style: str) -> dict[str, Tensor]:
        writer, prefix = tf_writer(style), f"MobilenetV{generation}|"
        writer.backbone(network.backbone, generation, prefix)
        if isinstance(network.hidden, torch.nn.Linear):
            writer.conv(f"{prefix}Conv_2", network.hidden.weight.data, network.hidden.bias.data)
        writer.conv(f"{prefix}Logits|Conv2d_1c_1x1", network.logits.weight.data, network.logits.bias.data)
        tensors: dict[str, Tensor] = writer.tensors()
        return tensors

    return write


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("style", ["checkpoint", "frozen", "fused", "tflite", "converted"])
@torch.no_grad()
def test_classifiers(style: str, name: str, images: Tensor, save: Save, randomised: Any, as_slim: Any) -> None:
    generation, make, hidden = NETWORKS[name]
    source = randomised(Classifier(make(), 1001, hidden_channels=hidden))
    path = save(as_slim(source, generation, style), "w.npz")
    network = Classifier(make(), 1000, hidden_channels=hidden).eval()
    load_weights(network, path)
    expected = source(images)[:, 1:]  # without the background
    torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-4)
    backbone = make()
    load_backbone_weights(backbone, path)
    torch.testing.assert_close(dict(backbone.state_dict()), dict(network.backbone.state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize("num_classes", [1001, 20])
def test_the_background_stays_where_the_network_has_as_many_classes(num_classes: int, save: Save, as_slim: Any) -> None:
    make = NETWORKS["v1"][1]
    source, network = (Classifier(make(), num_classes) for _ in range(2))
    load_weights(network, save(as_slim(source, 1, "checkpoint"), "w.npz"))
    torch.testing.assert_close(dict(network.named_parameters()), dict(source.named_parameters()), rtol=0, atol=0)


def test_the_averages_of_a_training_replace_its_weights(save: Save, randomised: Any, as_slim: Any) -> None:
    """And what the optimizer keeps is left out."""
    averages, latest = (
        as_slim(
            randomised(Classifier(MobileNetV3("small", padding="same"), 11, hidden_channels=1024), seed),
            3,
            "checkpoint",
        )
        for seed in (1, 2)
    )
    arrays = {name.replace("|", "/"): value for name, value in latest.items()}
    for name, value in averages.items():
        variable = name.replace("|", "/")
        arrays[f"{variable}/ExponentialMovingAverage"] = value
        arrays[f"{variable}/RMSProp"] = arrays[f"{variable}/RMSProp_1"] = arrays[f"{variable}/Momentum"] = value
    arrays["global_step"] = torch.tensor(7)
    network, expected = (Classifier(MobileNetV3("small", padding="same"), 11, hidden_channels=1024) for _ in range(2))
    load_weights(network, save(arrays, "w.pt"))
    load_weights(expected, save(averages, "averages.npz"))
    torch.testing.assert_close(dict(network.state_dict()), dict(expected.state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"padding": "symmetric"}, "padding: same"),
        ({"bn_eps": 1e-5}, r"bn_eps: 0\.001"),
        ({"variant": "large"}, r"blocks\.\d+\."),
        ({"minimalistic": True}, r"not in the network: blocks\.\d+\.se"),
        ({"width_mult": 0.5}, "of another shape"),
    ],
)
def test_weights_for_another_network(
    options: dict[str, Any], match: str, save: Save, as_slim: Any, refused: Refused
) -> None:
    base: dict[str, Any] = {"variant": "small", "padding": "same"}
    path = save(as_slim(Classifier(MobileNetV3(**base), 3, hidden_channels=1024), 3, "checkpoint"), "w.npz")
    network = MobileNetV3(**(base | options))
    with refused(network, rf"w\.npz: TF weights of a MobileNetV3 .*{match}"):
        load_backbone_weights(network, path)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda a: a.pop("MobilenetV2|Conv_1|weights"), r"1 missing: last\.conv\.weight"),
        (lambda a: a.pop("MobilenetV2|expanded_conv_4|expand|BatchNorm|beta"), r"missing: blocks\.4\.expand\.bn\.bias"),
        (lambda a: a.update({"MobilenetV2|Conv|odd": torch.zeros(2)}), r"not in the network: MobilenetV2\|Conv\|odd"),
        (
            lambda a: a.update({"x/MobilenetV2/Conv/weights": torch.zeros(3, 3, 3, 16)}),
            r"not in the network: x\|MobilenetV2\|Conv\|weights",
        ),
        (
            lambda a: a.update({"MobilenetV2|expanded_conv_17|depthwise|depthwise_weights": torch.zeros(3, 3, 8, 1)}),
            r"not in the network: blocks\.17\.",
        ),
        (
            lambda a: a.update(
                {
                    f"MobilenetV2|expanded_conv_999999999999|{part}": torch.zeros(1, 1, 8, 1)
                    for part in ("depthwise|depthwise_weights", "squeeze_excite|Conv|weights")
                }
            ),
            r"2 not in the network: blocks\.999999999999\.depthwise\.conv\.weight, blocks\.999999999999\.se\.",
        ),
    ],
)
def test_weights_that_are_not_complete(
    change: Callable[[dict[str, Tensor]], object],
    match: str,
    save: Save,
    as_slim: Any,
    refused: Refused,
) -> None:
    network = MobileNetV2(0.35, padding="same", bn_eps=1e-3)
    arrays = as_slim(Classifier(network, 3), 2, "checkpoint")
    change(arrays)
    with refused(network, match):
        load_backbone_weights(network, save(arrays, "w.npz"))


@pytest.fixture
def deeplab(real_data: Path) -> Path:
    return real_data / "weights" / "deeplabv3_mnv2_pascal_trainval.npz"


@torch.no_grad()
def test_the_backbone_of_the_published_deeplab(deeplab: Path, coco_images: Callable[[int], Tensor]) -> None:
    """Against its layers spelt out, up to the end of the second level."""
    from mbdet.weights.files import read_tensors

    backbone = MobileNetV2(last_channels=None, padding="same", bn_eps=1e-3).eval()
    load_backbone_weights(backbone, deeplab)
    arrays = read_tensors(deeplab)
    images = coco_images(2)

    def conv(x: Tensor, name: str, relu6: bool = True) -> Tensor:
        weight = arrays[f"MobilenetV2|{name}|Conv2D|merged_input"].permute(3, 2, 0, 1)
        x = F.conv2d(F.pad(x, (0, 1, 0, 1)), weight, stride=2) if name == "Conv" else F.conv2d(x, weight)
        x = x + arrays[f"MobilenetV2|{name}|BatchNorm|FusedBatchNorm|Offset"].view(-1, 1, 1)
        return x.clamp(0, 6) if relu6 else x

    def depthwise(x: Tensor, name: str, pad: tuple[int, ...], stride: int) -> Tensor:
        name = f"MobilenetV2|{name}|depthwise"
        x = F.conv2d(
            F.pad(x, pad), arrays[f"{name}|depthwise_weights"].permute(2, 3, 0, 1), stride=stride, groups=x.shape[1]
        )
        bn = f"{name}|BatchNorm|FusedBatchNorm"
        return (x * arrays[f"{bn}|Scaled"].view(-1, 1, 1) + arrays[f"{bn}|Offset"].view(-1, 1, 1)).clamp(0, 6)

    x = conv(images * (2 / 255) - 1, "Conv")
    x = conv(depthwise(x, "expanded_conv", (1, 1, 1, 1), 1), "expanded_conv|project", relu6=False)
    # 150 pixels to 75: one pixel of padding, at the bottom and right.
    x = depthwise(conv(x, "expanded_conv_1|expand"), "expanded_conv_1", (0, 1, 0, 1), 2)
    x = conv(x, "expanded_conv_1|project", relu6=False)
    inner = depthwise(conv(x, "expanded_conv_2|expand"), "expanded_conv_2", (1, 1, 1, 1), 1)
    expected = x + conv(inner, "expanded_conv_2|project", relu6=False)

    found = backbone.stem(backbone.normalize(images))
    for block in backbone.blocks[:3]:
        found = block(found).out
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_published_deeplab_is_no_classifier(deeplab: Path, refused: Refused) -> None:
    network = Classifier(MobileNetV2(last_channels=None, padding="same", bn_eps=1e-3), 21)
    with refused(network, "TF weights of a DeepLabv3 on MobileNetV2 are not those of a whole classifier"):
        load_weights(network, deeplab)
