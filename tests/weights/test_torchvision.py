"""Torchvision's MobileNets through our maps, against torchvision itself."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn
from torchvision import models
from torchvision.models.detection import ssdlite320_mobilenet_v3_large

from mbdet.backbones import MobileNetV2, MobileNetV3
from mbdet.backbones.base import IMAGENET_MEAN, IMAGENET_STD, TF_MEAN, TF_STD
from mbdet.models import Classifier, SSDLite
from mbdet.ops import AnchorConfig, Postprocess
from mbdet.types import DetectorOutput
from mbdet.weights import load_backbone_weights, load_weights
from mbdet.weights.coco_slots import UNUSED_COCO_IDS

Save = Callable[[dict[str, Tensor], str], Path]
Refused = Callable[..., AbstractContextManager[None]]

CONFIG = Path(__file__).parents[2] / "configs" / "ssdlite_v3_large_tv_coco.yaml"
SCORE = 0.3
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
CLASSIFIERS = {
    "v2": (models.mobilenet_v2, lambda: MobileNetV2(mean=TF_MEAN, std=TF_STD), None),
    "v3_large": (models.mobilenet_v3_large, lambda: MobileNetV3(mean=TF_MEAN, std=TF_STD), 1280),
    "v3_small": (models.mobilenet_v3_small, lambda: MobileNetV3("small", mean=TF_MEAN, std=TF_STD), 1024),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
@torch.no_grad()
def test_classifiers(
    name: str,
    images: Tensor,
    save: Save,
    randomised: Callable[..., Any],
    normalise: Callable[..., Any],
) -> None:
    make_theirs, make_ours, hidden = CLASSIFIERS[name]
    theirs = randomised(make_theirs(num_classes=7))
    path = save(theirs.state_dict(), "w.pth")
    network, backbone = Classifier(make_ours(), 7, hidden_channels=hidden).eval(), make_ours().eval()
    load_weights(network, path)
    load_backbone_weights(backbone, path)
    inputs = normalise(images, MEAN, STD)
    torch.testing.assert_close(network(images), theirs(inputs), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(backbone(images)["c5"], theirs.features(inputs), rtol=1e-4, atol=1e-4)
    for module in (network.backbone, backbone):
        assert module.normalize.mean.flatten().tolist() == pytest.approx(IMAGENET_MEAN)
        assert module.normalize.std.flatten().tolist() == pytest.approx(IMAGENET_STD)


@torch.no_grad()
def test_a_backbone_may_end_before_the_last_convolution(
    images: Tensor, save: Save, randomised: Callable[..., Any], normalise: Callable[..., Any]
) -> None:
    theirs = randomised(models.mobilenet_v2())
    ours = MobileNetV2(last_channels=None).eval()
    load_backbone_weights(ours, save(theirs.state_dict(), "w.pth"))
    expected = theirs.features[:-1](normalise(images, MEAN, STD))
    torch.testing.assert_close(ours(images)["c5"], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"bn_eps": 1e-5}, r"bn_eps: 0\.001"),
        ({"padding": "same"}, "padding: symmetric"),
        ({"variant": "small"}, r"not in the network: blocks\.11\."),
        ({"reduced_tail": "detection"}, r"of another shape: blocks\.12\.project"),
        ({"minimalistic": True}, r"not in the network: blocks\.10\.se\.expand\.bias"),
        ({"width_mult": 0.75, "rounding": "torchvision"}, r"of another shape: blocks\.1\.expand"),
    ],
)
def test_v3_weights_for_another_network(options: dict[str, Any], match: str, save: Save, refused: Refused) -> None:
    path = save(models.mobilenet_v3_large().state_dict(), "w.pth")
    network = MobileNetV3(**options)
    with refused(network, rf"w\.pth: torchvision's MobileNetV3 weights .*{match}"):
        load_backbone_weights(network, path)


def test_a_width_of_torchvision(save: Save) -> None:
    theirs = models.mobilenet_v3_small(width_mult=0.75)
    load_backbone_weights(
        MobileNetV3("small", width_mult=0.75, rounding="torchvision"), save(theirs.state_dict(), "w.pth")
    )


@pytest.mark.parametrize("key", ["features.2.block.9.0.weight", "features.99.bias", "features.16.2.weight"])
def test_unknown_names_are_reported(key: str, save: Save, refused: Refused) -> None:
    state = models.mobilenet_v3_large().state_dict() | {key: torch.zeros(1)}
    network = MobileNetV3()
    with refused(network, r"not in the network: (blocks\.1\.|features)"):
        load_backbone_weights(network, save(state, "w.pth"))


def detector(num_classes: int, **backbone: Any) -> SSDLite:
    anchors = AnchorConfig("torchvision")
    return SSDLite(MobileNetV3(reduced_tail="detection", **backbone), num_classes, anchors=anchors).eval()


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    """Return blurred noise."""
    noise = torch.rand(2, 3, 20, 20, generator=torch.Generator().manual_seed(1))
    return (nn.functional.interpolate(noise, size=(320, 320), mode="bicubic") * 255).clamp(0, 255).byte()


@pytest.fixture(scope="module")
def their_detector(pictures: Tensor) -> nn.Module:
    """Return torchvision's detector with random weights, and statistics that keep its features alive."""
    torch.manual_seed(0)
    network = ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, score_thresh=SCORE, detections_per_img=2000
    )
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.2)
        norm.momentum = 1.0
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d) and layer.bias is not None and name.startswith("head"):
            nn.init.normal_(layer.weight, std=0.15)
            nn.init.normal_(layer.bias)
    with torch.no_grad():
        network.head(list(network.backbone((pictures - 127.5) / 127.5).values()))
    return network.eval()


@pytest.mark.parametrize("num_classes", [90, 80])
@torch.no_grad()
def test_ssdlite_raw_outputs(num_classes: int, their_detector: Any, pictures: Tensor, save: Save) -> None:
    ours = detector(num_classes, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    load_weights(ours, save(their_detector.state_dict(), "w.pth"))
    assert ours.backbone.normalize.mean.flatten().tolist() == list(TF_MEAN)
    features = list(their_detector.backbone((pictures - 127.5) / 127.5).values())
    expected = their_detector.head(features)
    output = ours(pictures)
    slots = [slot for slot in range(91) if num_classes == 90 or slot not in UNUSED_COCO_IDS]
    torch.testing.assert_close(output.box_deltas, expected["bbox_regression"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(output.class_logits, expected["cls_logits"][..., slots], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_ssdlite_detections(their_detector: Any, pictures: Tensor, save: Save) -> None:
    """Boxes, scores and labels of torchvision's whole model.

    It takes the 300 best of each class to the suppression, we the best of the image, whatever their class; both take
    everything here. And it returns boxes that lie beside the image, clipped to nothing, which we do not.
    """
    ours = detector(90).double()  # so that no rounding decides what comes first
    load_weights(ours, save(their_detector.state_dict(), "w.pth"))
    expected = deepcopy(their_detector).double()([image.double() / 255 for image in pictures])
    postprocess = Postprocess("softmax", SCORE, iou_threshold=0.55, max_candidates=2000, max_detections=2000)
    output = DetectorOutput(*(values.float() for values in ours(pictures)))
    scores = output.class_logits.softmax(-1)[..., 1:]
    assert ((scores > SCORE).sum(1) < 300).all()
    assert ((scores > SCORE).sum((1, 2)) < 2000).all()
    found = postprocess(output, ours.anchors.float(), (320, 320))
    for index, theirs in enumerate(expected):
        solid = (theirs["boxes"][:, 2:] > theirs["boxes"][:, :2]).all(1)
        count = int(found.counts[index])
        assert 500 < count < int((scores[index] > SCORE).sum())
        torch.testing.assert_close(found.scores[index, :count], theirs["scores"][solid].float(), rtol=0, atol=1e-5)
        torch.testing.assert_close(found.labels[index, :count], theirs["labels"][solid] - 1)
        torch.testing.assert_close(found.boxes[index, :count], theirs["boxes"][solid].float(), rtol=1e-5, atol=1e-4)


@torch.no_grad()
def test_ssdlite_detections_as_the_config_sets_them(their_detector: Any, pictures: Tensor, save: Save) -> None:
    """The 100 best, which COCO's evaluation takes, at torchvision's own thresholds and numbers.

    Both cut what goes to the suppression, and equal each other where that many survive it.
    """
    config = yaml.safe_load(CONFIG.read_text())["model"]["init_args"]["postprocess"]
    ours, theirs = detector(90).double(), deepcopy(their_detector).double()
    load_weights(ours, save(their_detector.state_dict(), "w.pth"))
    theirs.score_thresh, theirs.detections_per_img = 0.001, 300
    assert (theirs.nms_thresh, theirs.topk_candidates) == (0.55, 300)
    output = DetectorOutput(*(values.float() for values in ours(pictures)))
    found = Postprocess(**config)(output, ours.anchors.float(), (320, 320))
    expected = theirs([image.double() / 255 for image in pictures])
    for index, detections in enumerate(expected):
        solid = (detections["boxes"][:, 2:] > detections["boxes"][:, :2]).all(1)
        scores, labels, boxes = (detections[name][solid][:100] for name in ("scores", "labels", "boxes"))
        assert int(found.counts[index]) == len(scores) == 100
        torch.testing.assert_close(found.scores[index], scores.float(), rtol=0, atol=1e-5)
        torch.testing.assert_close(found.labels[index], labels - 1)
        torch.testing.assert_close(found.boxes[index], boxes.float(), rtol=1e-5, atol=1e-4)


def test_ssdlite_with_a_pretrained_backbone_has_the_whole_tail(save: Save) -> None:
    theirs = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)
    whole = SSDLite(MobileNetV3(), 90, anchors=AnchorConfig("torchvision"))
    assert whole.backbone.specs["c5"].channels == 960
    with pytest.raises(ValueError, match="of another shape"):
        load_weights(whole, save(theirs.state_dict(), "w.pth"))


def test_an_ssdlite_gives_its_backbone(their_detector: nn.Module, save: Save) -> None:
    network = MobileNetV3(reduced_tail="detection")
    load_backbone_weights(network, save(their_detector.state_dict(), "w.pth"))
    expected = their_detector.state_dict()["backbone.features.1.0.1.0.weight"]
    torch.testing.assert_close(network.blocks[12].depthwise.conv.weight.data, expected)
