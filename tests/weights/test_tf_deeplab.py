"""Google's frozen DeepLabv3 against a forward pass of the bare arrays, and against what is in the images."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as masks
from torch import Tensor
from torch.nn import functional as F

from mbdet.backbones import MobileNetV2
from mbdet.backbones.base import TF_MEAN, TF_STD
from mbdet.models import DeepLabV3
from mbdet.weights import load_backbone_weights, load_weights
from mbdet.weights.files import read_tensors
from mbdet.weights.tf_deeplab import from_tf_deeplab, is_tf_deeplab

Save = Callable[[dict[str, Tensor], str], Path]
SIZE = 513
BN_PARTS = ("weight", "bias", "running_mean", "running_var")
# COCO's names of Pascal VOC's classes, in VOC's order; background is 0.
VOC = (
    "airplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "dining table", "dog",
    "horse", "motorcycle", "person", "potted plant", "sheep", "couch", "train", "tv",
)  # fmt: skip


class PlainForward:
    """The published frozen graph, spelt out with convolutions alone."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as arrays:
            self.arrays = {name: torch.from_numpy(arrays[name]) for name in arrays.files}

    def __call__(self, images: Tensor) -> Tensor:
        """Return logits at an eighth of the resolution."""
        x = self.conv(images * self.arrays["mul_1|x"] - self.arrays["ToFloat|x"], "MobilenetV2|Conv", 2).clamp(0, 6)
        for index in range(17):
            block = f"MobilenetV2|expanded_conv{f'_{index}' if index else ''}"
            stride = 2 if index in (1, 3) else 1  # the stem and these make 8
            rate = 1 if index <= 6 else 2 if index <= 13 else 4
            inner = self.conv(x, f"{block}|expand").clamp(0, 6) if index else x
            inner = self.depthwise(inner, f"{block}|depthwise", stride, rate)
            out = self.conv(inner, f"{block}|project")
            x = x + out if stride == 1 and x.shape == out.shape else out
        pooled = self.conv(x.mean((2, 3), keepdim=True), "image_pooling").relu()
        pooled = F.interpolate(pooled, x.shape[2:], mode="bilinear", align_corners=True)
        x = self.conv(torch.cat([pooled, self.conv(x, "aspp0").relu()], dim=1), "concat_projection").relu()
        weight, bias = (self.arrays[f"logits|semantic|{name}"] for name in ("weights", "biases"))
        return F.conv2d(x, weight.permute(3, 2, 0, 1), bias)

    def conv(self, x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = self.arrays[f"{name}|Conv2D|merged_input"].permute(3, 2, 0, 1)
        bias = self.arrays[f"{name}|BatchNorm|FusedBatchNorm|Offset"]
        return self.same(x, weight, stride, 1, 1) + bias.view(-1, 1, 1)

    def depthwise(self, x: Tensor, name: str, stride: int, rate: int) -> Tensor:
        x = self.same(x, self.arrays[f"{name}|depthwise_weights"].permute(2, 3, 0, 1), stride, rate, x.shape[1])
        scale, bias = (self.arrays[f"{name}|BatchNorm|FusedBatchNorm|{part}"] for part in ("Scaled", "Offset"))
        return (x * scale.view(-1, 1, 1) + bias.view(-1, 1, 1)).clamp(0, 6)

    def same(self, x: Tensor, weight: Tensor, stride: int, rate: int, groups: int) -> Tensor:
        pads: list[int] = []
        for size in (x.shape[3], x.shape[2]):
            reach = (math.ceil(size / stride) - 1) * stride + (weight.shape[-1] - 1) * rate + 1
            total = max(reach - size, 0)
            pads += [total // 2, total - total // 2]
        return F.conv2d(F.pad(x, pads), weight, stride=stride, dilation=rate, groups=groups)


@pytest.fixture(scope="module")
def published(real_data: Path) -> Path:
    return real_data / "weights" / "deeplabv3_mnv2_pascal_trainval.npz"


@pytest.fixture(scope="module")
def records(real_data: Path) -> list[dict[str, Any]]:
    """Return the first three validation images in which VOC's classes cover much, with their label maps."""
    content = json.loads((real_data / "coco" / "annotations" / "instances_val2017.json").read_text())
    labels = {c["id"]: VOC.index(c["name"]) + 1 for c in content["categories"] if c["name"] in VOC}
    found = []
    for record in sorted(content["images"], key=lambda record: record["file_name"]):
        size = record["height"], record["width"]
        objects = [
            a
            for a in content["annotations"]
            if a["image_id"] == record["id"] and a["category_id"] in labels and not a["iscrowd"]
        ]
        truth = np.zeros(size, np.uint8)
        for annotation in objects:
            mask = masks.decode(masks.merge(masks.frPyObjects(annotation["segmentation"], *size)))
            truth[mask > 0] = labels[annotation["category_id"]]
        if (truth > 0).mean() > 0.15:
            found.append({"path": real_data / "coco" / "val2017" / record["file_name"], "truth": truth})
        if len(found) == 3:
            return found
    raise AssertionError("too few images")


def prepared(image: Image.Image) -> tuple[Tensor, int, int]:
    """Resize the longer side to 513, pad with the mean; return the image, and its height and width without padding."""
    scale = SIZE / max(image.size)
    width, height = (round(side * scale) for side in image.size)
    pixels = np.array(image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR))
    padded = torch.full((1, 3, SIZE, SIZE), 127.5)
    padded[0, :, :height, :width] = torch.from_numpy(pixels).permute(2, 0, 1)
    return padded, height, width


def tf_network() -> DeepLabV3:
    backbone = MobileNetV2(last_channels=None, output_stride=8, padding="same", bn_eps=1e-3, mean=TF_MEAN, std=TF_STD)
    return DeepLabV3(backbone, 21, rates=()).eval()


@torch.no_grad()
def test_published_weights_equal_a_plain_forward_pass_and_find_the_objects(
    published: Path, records: list[dict[str, Any]]
) -> None:
    network, plain = tf_network(), PlainForward(published)
    load_weights(network, published)
    right = labelled = 0
    for record in records:
        images, height, width = prepared(Image.open(record["path"]))
        logits = network(images).logits
        expected = F.interpolate(plain(images), (SIZE, SIZE), mode="bilinear", align_corners=True)
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-3)
        assert (logits.argmax(1) == expected.argmax(1)).float().mean() >= 0.999

        found = logits.argmax(1)[0, :height, :width].to(torch.uint8).numpy()
        truth = np.array(Image.fromarray(record["truth"]).resize((width, height), Image.Resampling.NEAREST))
        right += int((found == truth)[truth > 0].sum())
        labelled += int((truth > 0).sum())
    assert right / labelled > 0.8


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
