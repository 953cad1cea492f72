"""Google's published DeepLabv3 on real images, through the documented commands, against a forward pass of bare arrays.

The ground truth, too, is painted and scored by other code than mbdet's.
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.classification import MulticlassJaccardIndex

import mbdet
from mbdet.cli import main
from mbdet.data.mask_layouts import VOC_CLASSES

CONFIG = str(Path(__file__).parents[1] / "configs" / "deeplabv3_v2_tf_coco_voc.yaml")
SIZE = 513
PADDING = (124, 116, 104)  # what mbdet pads with; the published graph has 127.5
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
        """Return logits at the resolution of the images."""
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
        logits = F.conv2d(x, weight.permute(3, 2, 0, 1), bias)
        return F.interpolate(logits, images.shape[2:], mode="bilinear", align_corners=True)

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


@torch.no_grad()
def plain_classes(
    network: PlainForward, path: Path, padding: tuple[float, float, float] = PADDING
) -> NDArray[np.uint8]:
    """Bring the longer side to 513, pad, and take the likeliest class of the nearest pixel."""
    image = Image.open(path).convert("RGB")
    scale = SIZE / max(image.size)
    width, height = (round(side * scale) for side in image.size)
    padded = torch.tensor(padding, dtype=torch.float32).view(1, 3, 1, 1).repeat(1, 1, SIZE, SIZE)
    resized = np.array(image.resize((width, height), Image.Resampling.BILINEAR))
    padded[0, :, :height, :width] = torch.from_numpy(resized).permute(2, 0, 1)
    classes = network(padded).argmax(1)[0, :height, :width].to(torch.uint8).numpy()
    return np.array(Image.fromarray(classes).resize(image.size, Image.Resampling.NEAREST))


def painted(coco: COCO, image_id: int) -> NDArray[np.uint8]:
    """Paint the objects of VOC's classes, 255 where two of them lie."""
    record = coco.loadImgs(image_id)[0]
    truth, owners = np.zeros((2, record["height"], record["width"]), dtype=np.uint8)
    for annotation in coco.loadAnns(coco.getAnnIds(image_id)):
        name = coco.loadCats(annotation["category_id"])[0]["name"]
        if name in VOC:
            mask = coco.annToMask(annotation)
            truth, owners = np.maximum(truth, mask * np.uint8(VOC.index(name) + 1)), owners + mask
    return np.where(owners > 1, np.uint8(255), truth)


@pytest.fixture
def weights(real_data: Path) -> Path:
    return real_data / "weights" / "deeplabv3_mnv2_pascal_trainval.npz"


@pytest.mark.parametrize("count", [6, pytest.param(100, marks=pytest.mark.slow)])
def test_the_command_scores_what_a_plain_forward_pass_finds(
    weights: Path, real_data: Path, tmp_path: Path, count: int
) -> None:
    content = json.loads((real_data / "coco" / "annotations" / "instances_val2017.json").read_text())
    content["images"] = sorted(content["images"], key=lambda record: record["file_name"])[:count]
    ids = {record["id"] for record in content["images"]}
    content["annotations"] = [item for item in content["annotations"] if item["image_id"] in ids]
    (tmp_path / "annotations").mkdir()
    annotations = tmp_path / "annotations" / "instances_val2017.json"
    annotations.write_text(json.dumps(content))
    (tmp_path / "val2017").symlink_to(real_data / "coco" / "val2017")

    options = ["--weights", str(weights), "--data.root", str(tmp_path), "--data.num_workers", "0"]
    assert main(["evaluate", CONFIG, *options, "--json", str(tmp_path / "figures.json")]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())

    coco, network, segmenter = COCO(annotations), PlainForward(weights), mbdet.load(CONFIG, weights)
    assert segmenter.class_names == VOC_CLASSES
    metric, published_padding = (MulticlassJaccardIndex(21, ignore_index=255) for _ in range(2))
    same = pixels = 0
    for record in content["images"]:
        path, truth = tmp_path / "val2017" / record["file_name"], torch.from_numpy(painted(coco, record["id"])).long()
        classes = plain_classes(network, path)
        found = segmenter(path).classes
        same, pixels = same + int((found == classes).sum()), pixels + found.size
        metric.update(torch.from_numpy(classes)[None], truth[None])
        if count == 100:
            classes = plain_classes(network, path, (127.5, 127.5, 127.5))
            published_padding.update(torch.from_numpy(classes)[None], truth[None])
    print(f"{same / pixels:.5%} of the pixels agree; mIoU {figures['mIoU']:.4f}, plain {metric.compute():.4f}")
    assert same / pixels >= 0.999
    assert figures["mIoU"] == pytest.approx(metric.compute().item(), abs=0.002)
    assert figures["images"] == count
    if count == 100:
        print(f"with the published padding {published_padding.compute():.4f}")
        assert figures["mIoU"] == pytest.approx(0.509, abs=0.003)
        assert figures["mIoU"] == pytest.approx(published_padding.compute().item(), abs=0.01)
