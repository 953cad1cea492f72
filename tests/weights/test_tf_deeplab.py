"""Google's frozen DeepLabv3 and its checkpoints; tests/test_published_segmenter.py has it find what is in images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mbdet.backbones import MobileNetV2
from mbdet.backbones.base import TF_MEAN, TF_STD
from mbdet.models import DeepLabV3
from mbdet.weights import load_backbone_weights, load_weights
from mbdet.weights.files import read_tensors
from mbdet.weights.tf_deeplab import from_tf_deeplab, is_tf_deeplab

Save = Callable[[dict[str, Tensor], str], Path]
BN_PARTS = ("weight", "bias", "running_mean", "running_var")


@pytest.fixture(scope="module")
def published(real_data: Path) -> Path:
    return real_data / "weights" / "deeplabv3_mnv2_pascal_trainval.npz"


def tf_network() -> DeepLabV3:
    backbone = MobileNetV2(last_channels=None, output_stride=8, padding="same", bn_eps=1e-3, mean=TF_MEAN, std=TF_STD)
    return DeepLabV3(backbone, 21, rates=()).eval()


def test_published_weights_are_recognised(published: Path, real_data: Path) -> None:
    assert is_tf_deeplab(read_tensors(published))
    assert not is_tf_deeplab(read_tensors(real_data / "weights" / "ssdlite_mobilenet_v2_coco.npz"))
    assert not is_tf_deeplab(tf_network().state_dict())


@torch.no_grad()
def test_atrous_branches_and_strange_arrays(published: Path) -> None:
    """The published file has neither."""
    tensors = read_tensors(published)
    kernel = torch.randn(1, 1, 320, 256)
    tensors |= {
        "aspp3|Conv2D|merged_input": kernel,
        "aspp3|BatchNorm|FusedBatchNorm|Offset": torch.randn(256),
        "decoder|weights": torch.zeros(1),
    }
    state = from_tf_deeplab(tensors, 21)
    torch.testing.assert_close(state["aspp.3.conv.weight"], kernel.permute(3, 2, 0, 1))
    extra = {f"aspp.3.{name}" for name in ("conv.weight", *(f"bn.{part}" for part in BN_PARTS))}
    assert set(state) - set(tf_network().state_dict()) == {"decoder|weights", *extra}


@torch.no_grad()
def test_checkpoints(save: Save, randomised: Any, tf_writer: Any) -> None:
    """Whose batch norms are not folded, and have another constant in the head than in the backbone."""

    def build() -> DeepLabV3:
        backbone = MobileNetV2(0.35, last_channels=None, output_stride=16, padding="same", bn_eps=1e-3)
        return DeepLabV3(backbone, 5, rates=(6,), channels=8).eval()

    source, network = randomised(build()), build()
    writer = tf_writer("checkpoint")
    writer.backbone(source.backbone, 2, "MobilenetV2|")
    for theirs, ours in (
        ("image_pooling", source.image_pooling),
        ("aspp0", source.aspp[0]),
        ("aspp1", source.aspp[1]),
        ("concat_projection", source.projection),
    ):
        writer.conv_bn(theirs, ours)
    writer.conv("logits|semantic", source.classifier.weight.data, source.classifier.bias.data)
    load_weights(network, save(writer.tensors(), "w.npz"))
    source.backbone.normalize = network.backbone.normalize
    images = torch.randint(256, (2, 3, 65, 97), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    torch.testing.assert_close(network(images), source(images))


def test_the_published_backbone_and_other_constants(published: Path, refused: Any) -> None:
    network = tf_network()
    load_weights(network, published)
    backbone = MobileNetV2(last_channels=None, padding="same", bn_eps=1e-3)
    load_backbone_weights(backbone, published)
    torch.testing.assert_close(dict(backbone.state_dict()), dict(network.backbone.state_dict()), rtol=0, atol=0)
    other = DeepLabV3(backbone, 21, rates=(), bn_eps=1e-3)
    with refused(other, r"TF weights of a DeepLabv3 on MobileNetV2 need bn_eps: 1e-05 in the heads, .* has 0\.001"):
        load_weights(other, published)
