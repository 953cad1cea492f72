"""TF Object Detection API weights: against a forward pass of the bare arrays, and as TF's tools write them."""

import json
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_iou

from mbdet.backbones import MobileNetV1, MobileNetV2, MobileNetV3
from mbdet.backbones.base import TF_MEAN, TF_STD
from mbdet.backbones.blocks import ConvBNAct
from mbdet.models import SSD, SSDLite
from mbdet.models.heads import SeparablePredictor
from mbdet.ops import Postprocess
from mbdet.types import DetectorOutput
from mbdet.weights import load_backbone_weights, load_weights
from mbdet.weights.coco_slots import UNUSED_COCO_IDS

Images = Callable[[int], Tensor]
Save = Callable[[dict[str, Tensor], str], Path]
Refused = Callable[..., AbstractContextManager[None]]
AsTF = Callable[..., dict[str, Tensor]]

NET = "FeatureExtractor|MobilenetV2|"
YX = [1, 0, 3, 2]  # from dx, dy, dw, dh to ty, tx, th, tw, and back
USED_SLOTS = [slot for slot in range(91) if slot not in {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}]


class PlainForward:
    """The published frozen graph, spelt out with convolutions alone."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as arrays:
            self.arrays = {name: torch.from_numpy(arrays[name]) for name in arrays.files}

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return box codes as ty, tx, th, tw and the logits of 91 slots."""
        x = self.conv(images * (2 / 255) - 1, f"{NET}Conv", stride=2)
        maps = []
        for index in range(17):
            block = f"{NET}expanded_conv{f'_{index}' if index else ''}"
            stride = 2 if index in (1, 3, 6, 13) else 1
            inner = self.conv(x, f"{block}|expand") if index else x
            if index == 13:
                maps.append(inner)
            out = self.conv(self.depthwise(inner, f"{block}|depthwise", stride), f"{block}|project", relu6=False)
            x = x + out if stride == 1 and x.shape == out.shape else out
        maps.append(self.conv(x, f"{NET}Conv_1"))
        for number, width in ((2, 512), (3, 256), (4, 256), (5, 128)):
            x = self.conv(maps[-1], f"{NET}layer_19_1_Conv2d_{number}_1x1_{width // 2}")
            x = self.depthwise(x, f"{NET}layer_19_2_Conv2d_{number}_3x3_s2_{width}_depthwise", 2)
            maps.append(self.conv(x, f"{NET}layer_19_2_Conv2d_{number}_3x3_s2_{width}"))
        boxes = [self.head(x, f"BoxPredictor_{index}|BoxEncodingPredictor", 4) for index, x in enumerate(maps)]
        classes = [self.head(x, f"BoxPredictor_{index}|ClassPredictor", 91) for index, x in enumerate(maps)]
        return torch.cat(boxes, dim=1), torch.cat(classes, dim=1)

    def same(self, x: Tensor, weight: Tensor, stride: int, groups: int = 1) -> Tensor:
        pads: list[int] = []
        for size in (x.shape[3], x.shape[2]):
            total = max((math.ceil(size / stride) - 1) * stride + weight.shape[-1] - size, 0)
            pads += [total // 2, total - total // 2]
        return F.conv2d(F.pad(x, pads), weight, stride=stride, groups=groups)

    def conv(self, x: Tensor, name: str, stride: int = 1, relu6: bool = True) -> Tensor:
        weight = self.arrays[f"{name}|Conv2D|merged_input"].permute(3, 2, 0, 1)
        x = self.same(x, weight, stride) + self.arrays[f"{name}|BatchNorm|batchnorm|sub"].view(-1, 1, 1)
        return x.clamp(0, 6) if relu6 else x

    def depthwise(self, x: Tensor, name: str, stride: int) -> Tensor:
        x = self.same(x, self.arrays[f"{name}|depthwise_weights"].permute(2, 3, 0, 1), stride, groups=x.shape[1])
        mul, sub = (self.arrays[f"{name}|BatchNorm|batchnorm|{part}"].view(-1, 1, 1) for part in ("mul", "sub"))
        return (x * mul + sub).clamp(0, 6)

    def head(self, x: Tensor, name: str, outputs: int) -> Tensor:
        weight = self.arrays[f"{name}_depthwise|depthwise_weights"].permute(2, 3, 0, 1)
        x = self.same(x, weight, 1, groups=x.shape[1])
        gamma, beta, mean, variance = (
            self.arrays[f"{name}_depthwise|BatchNorm|{part}"].view(-1, 1, 1)
            for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        x = ((x - mean) / (variance + 1e-3).sqrt() * gamma + beta).clamp(0, 6)
        x = F.conv2d(x, self.arrays[f"{name}|weights"].permute(3, 2, 0, 1), self.arrays[f"{name}|biases"])
        return x.permute(0, 2, 3, 1).reshape(len(x), -1, outputs)


@pytest.fixture
def published(real_data: Path) -> Path:
    return real_data / "weights" / "ssdlite_mobilenet_v2_coco.npz"


def tf_detector(num_classes: int) -> SSDLite:
    return SSDLite(MobileNetV2(padding="same", bn_eps=1e-3), num_classes, (300, 300), padding="same").eval()


@pytest.mark.parametrize(("num_classes", "slots"), [(90, list(range(91))), (80, USED_SLOTS)])
@torch.no_grad()
def test_published_weights_equal_a_plain_forward_pass(
    num_classes: int, slots: list[int], published: Path, coco_images: Images
) -> None:
    detector = tf_detector(num_classes)
    load_weights(detector, published)
    images = coco_images(2)
    codes, logits = PlainForward(published)(images.float())
    output: DetectorOutput = detector(images)
    torch.testing.assert_close(output.box_deltas, codes[..., [1, 0, 3, 2]], rtol=0, atol=1e-3)
    torch.testing.assert_close(output.class_logits, logits[..., slots], rtol=0, atol=1e-3)


@torch.no_grad()
def test_published_weights_find_the_objects_of_coco(real_data: Path, published: Path, coco_images: Images) -> None:
    """The surest detection of an image is one of its objects, nearly always."""
    annotations = json.loads((real_data / "coco" / "annotations" / "instances_val2017.json").read_text())
    categories = sorted(category["id"] for category in annotations["categories"])
    assert [slot for slot in USED_SLOTS if slot] == categories
    records = sorted(annotations["images"], key=lambda record: record["file_name"])[:8]
    detector = tf_detector(80)
    load_weights(detector, published)
    found = Postprocess()(detector(coco_images(8)), detector.anchors, (300, 300))
    hits = 0
    for boxes, labels, record in zip(found.boxes, found.labels, records, strict=True):
        scale = torch.tensor([record["width"] / 300, record["height"] / 300]).repeat(2)
        objects = [a for a in annotations["annotations"] if a["image_id"] == record["id"]]
        for x, y, w, h in (a["bbox"] for a in objects if categories.index(a["category_id"]) == labels[0]):
            hits += int(box_iou(boxes[:1] * scale, torch.tensor([[x, y, x + w, y + h]])) > 0.5)
    assert hits >= 6


def test_the_unused_slots_are_coco_ids_without_a_category() -> None:
    assert len(USED_SLOTS) == 81
    assert [slot for slot in range(91) if slot not in UNUSED_COCO_IDS] == USED_SLOTS


def test_published_backbone(published: Path, coco_images: Images) -> None:
    detector, backbone = tf_detector(90), MobileNetV2(padding="same", bn_eps=1e-3).eval()
    load_weights(detector, published)
    load_backbone_weights(backbone, published)
    torch.testing.assert_close(dict(backbone.state_dict()), dict(detector.backbone.state_dict()), rtol=0, atol=0)
    assert backbone.normalize.mean.flatten().tolist() == list(TF_MEAN)
    assert backbone.normalize.std.flatten().tolist() == list(TF_STD)


def small_detector(num_classes: int = 90, **options: Any) -> SSDLite:
    settings = {"padding": "same", "bn_eps": 1e-3, "extra_channels": (48, 32, 32, 16)} | options
    backbone = {name: settings.pop(f"backbone_{name}", settings[name]) for name in ("padding", "bn_eps")}
    width_mult = settings.pop("width_mult", 0.35)
    return SSDLite(
        MobileNetV2(width_mult, scale_last=True, mean=TF_MEAN, std=TF_STD, **backbone),
        num_classes,
        (64, 64),
        **settings,
    ).eval()


@pytest.fixture
def as_tf(tf_writer: Any) -> AsTF:
    """Return a function that writes a detector as TF's tools do."""

    def write(detector: SSDLite, style: str = "checkpoint", generation: int = 2, base: str = "layer_19") -> Any:
        writer = tf_writer(style)
        prefix = f"FeatureExtractor|MobilenetV{generation}|"
        writer.backbone(detector.backbone, generation, prefix)
        for index, extra in enumerate(detector.extras):
            width = extra.expand.conv.out_channels
            reduced = extra.reduce.conv.out_channels
            writer.conv_bn(f"{prefix}{base}_1_Conv2d_{index + 2}_1x1_{reduced}", extra.reduce)
            if isinstance(extra.depthwise, ConvBNAct):
                writer.conv_bn(f"{prefix}{base}_2_Conv2d_{index + 2}_3x3_s2_{width}_depthwise", extra.depthwise)
            writer.conv_bn(f"{prefix}{base}_2_Conv2d_{index + 2}_3x3_s2_{width}", extra.expand)
        for heads, branch in ((detector.box_heads, "BoxEncodingPredictor"), (detector.class_heads, "ClassPredictor")):
            for index, head in enumerate(heads):
                if isinstance(head, SeparablePredictor):
                    writer.conv_bn(f"BoxPredictor_{index}|{branch}_depthwise", head.depthwise)
                weight, bias = head.last.weight.data, head.last.bias.data
                if branch == "BoxEncodingPredictor":
                    weight = weight.view(-1, 4, *weight.shape[1:])[:, YX].flatten(0, 1)
                    bias = bias.view(-1, 4)[:, YX].flatten()
                writer.conv(f"BoxPredictor_{index}|{branch}", weight, bias)
        return writer.tensors()

    return write


@pytest.fixture
def source(randomised: Callable[..., SSDLite]) -> SSDLite:
    """Return a detector like TF's, small and with random weights."""
    return randomised(small_detector())


@pytest.mark.parametrize(("num_classes", "slots"), [(90, list(range(91))), (80, USED_SLOTS)])
@torch.no_grad()
def test_checkpoints(num_classes: int, slots: list[int], source: SSDLite, save: Save, as_tf: AsTF) -> None:
    detector = small_detector(num_classes)
    load_weights(detector, save(as_tf(source), "w.npz"))
    images = torch.randint(256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    expected, found = source(images), detector(images)
    torch.testing.assert_close(found.box_deltas, expected.box_deltas)
    torch.testing.assert_close(found.class_logits, expected.class_logits[..., slots])


def test_narrow_extra_layers(randomised: Callable[..., SSDLite], save: Save, as_tf: AsTF) -> None:
    """Whose first convolutions are wider than half of what they make."""
    options: dict[str, Any] = {"extra_channels": (48, 25, 16, 16), "min_extra_channels": 16}
    source, detector = randomised(small_detector(**options)), small_detector(**options)
    assert [extra.reduce.conv.out_channels for extra in source.extras] == [24, 16, 16, 16]
    load_weights(detector, save(as_tf(source), "w.npz"))
    torch.testing.assert_close(dict(detector.named_parameters()), dict(source.named_parameters()))


def test_checkpoints_with_other_classes_keep_all_slots(
    randomised: Callable[..., SSDLite], save: Save, as_tf: AsTF
) -> None:
    """Only COCO's 91 slots have holes."""
    source, detector = randomised(small_detector(80)), small_detector(80)
    load_weights(detector, save(as_tf(source), "w.npz"))
    torch.testing.assert_close(dict(detector.named_parameters()), dict(source.named_parameters()))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"padding": "symmetric"}, "padding: same"),
        ({"backbone_padding": "symmetric"}, "padding: same"),
        ({"padding": "symmetric", "backbone_padding": "same"}, "padding: same"),
        ({"bn_eps": 1e-5}, r"bn_eps: 0\.001"),
        ({"backbone_bn_eps": 1e-5}, r"bn_eps: 0\.001"),
        ({"bn_eps": 1e-5, "backbone_bn_eps": 1e-3}, r"bn_eps: 0\.001"),
        ({"num_classes": 20}, r"class_heads\.0\.pointwise\.weight is \(273, .*, not \(63, .*num_classes"),
        ({"width_mult": 0.5}, r"of another shape: backbone\.\S+conv\.weight"),
        ({"extra_channels": (48, 32, 32)}, r"not in the network: box_heads\.5"),
    ],
)
def test_weights_for_another_network(
    options: dict[str, Any], match: str, source: SSDLite, save: Save, as_tf: AsTF, refused: Refused
) -> None:
    detector = small_detector(**options)
    with refused(detector, rf"w\.npz: weights of a TF SSD on MobileNetV2 .*{match}"):
        load_weights(detector, save(as_tf(source), "w.npz"))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda a: a.pop("BoxPredictor_1|ClassPredictor|biases"), r"missing: class_heads\.1\.pointwise"),
        (lambda a: a.pop(f"{NET}Conv_1|BatchNorm|beta"), r"1 missing: backbone\.last\.bn\.bias"),
        (lambda a: a.update({f"{NET}expanded_conv_17|x": torch.zeros(1)}), r"not in the network: .*expanded_conv_17"),
    ],
)
def test_weights_that_are_not_complete(
    change: Callable[[dict[str, Tensor]], object],
    match: str,
    source: SSDLite,
    save: Save,
    as_tf: AsTF,
    refused: Refused,
) -> None:
    arrays = as_tf(source)
    change(arrays)
    detector = small_detector()
    with refused(detector, match):
        load_weights(detector, save(arrays, "w.npz"))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("BoxPredictor_0|BoxEncodingPredictor|biases", (6,)),
        ("BoxPredictor_0|ClassPredictor|biases", ()),
        ("BoxPredictor_0|BoxEncodingPredictor|weights", (1, 1, 8, 6)),
    ],
)
def test_a_tensor_of_a_shape_that_no_network_has(
    name: str, shape: tuple[int, ...], source: SSDLite, save: Save, as_tf: AsTF, refused: Refused
) -> None:
    arrays = as_tf(source) | {name: torch.zeros(shape)}
    detector = small_detector(80)
    with refused(detector, r"w\.npz: (.*not shaped like them \(.*\); fetch|weights of .* missing: class_heads)"):
        load_weights(detector, save(arrays, "w.npz"))


GENERATIONS = {
    1: (lambda: MobileNetV1(0.25, padding="same"), "Conv2d_13_pointwise"),
    2: (lambda: MobileNetV2(0.35, scale_last=True, padding="same", bn_eps=1e-3), "layer_19"),
    3: (lambda: MobileNetV3("small", width_mult=0.5, reduced_tail="detection", padding="same"), "layer_13"),
}


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("style", ["checkpoint", "frozen", "fused", "tflite", "converted"])
@torch.no_grad()
def test_every_generation_in_every_form(
    style: str, generation: int, randomised: Callable[..., SSDLite], save: Save, as_tf: AsTF
) -> None:
    backbone, base = GENERATIONS[generation]
    options: dict[str, Any] = {"padding": "same", "extra_channels": (48, 32, 32, 16)}
    source = randomised(SSDLite(backbone(), 90, (64, 64), **options))
    detector = SSDLite(backbone(), 80, (64, 64), **options).eval()
    load_weights(detector, save(as_tf(source, style, generation, base), "w.npz"))
    images = torch.randint(256, (1, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    source.backbone.normalize.mean[:], source.backbone.normalize.std[:] = 127.5, 127.5
    expected, found = source(images), detector(images)
    torch.testing.assert_close(found.box_deltas, expected.box_deltas, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.class_logits, expected.class_logits[..., USED_SLOTS], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("generation", "predictor", "extra"), [(1, "conv1", "conv"), (2, "conv3", "separable"), (2, "conv1", "conv")]
)
@pytest.mark.parametrize("style", ["checkpoint", "frozen", "converted"])
@torch.no_grad()
def test_plain_ssd(
    style: str,
    generation: int,
    predictor: str,
    extra: str,
    randomised: Callable[..., SSD],
    save: Save,
    as_tf: AsTF,
    refused: Refused,
) -> None:
    """ssd_mobilenet_v1_coco and ssd_mobilenet_v2_coco."""
    backbone, base = GENERATIONS[generation]
    options: dict[str, Any] = {"padding": "same", "extra_channels": (48, 32)}
    kind: dict[str, Any] = {"predictor": predictor, "extra": extra}
    source = randomised(SSD(backbone(), 90, (64, 64), **kind, **options))
    path = save(as_tf(source, style, generation, base), "w.npz")
    lite = SSDLite(backbone(), 90, (64, 64), **options)
    with refused(lite, r"missing: box_heads\.0\.depthwise"):
        load_weights(lite, path)
    detector = SSD(backbone(), 90, (64, 64), **kind, **options).eval()
    load_weights(detector, path)
    images = torch.randint(256, (1, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    source.backbone.normalize.mean[:], source.backbone.normalize.std[:] = 127.5, 127.5
    expected, found = source(images), detector(images)
    torch.testing.assert_close(found.box_deltas, expected.box_deltas, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.class_logits, expected.class_logits, rtol=1e-4, atol=1e-4)
