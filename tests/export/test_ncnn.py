"""ncnn files: every kind of network through pnnx and back, verified; and what cannot be written."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_exports import KINDS, NAMES, SIZE, scenes, small_export
from torch import Tensor, nn

pytest.importorskip("ncnn")
pytest.importorskip("pnnx")

from mbdet.backbones import MobileNetV2, MobileNetV3
from mbdet.errors import InputError
from mbdet.export.base import Export, Form, Precision
from mbdet.export.detection import DetectionExport
from mbdet.export.format import Order, write_verified
from mbdet.export.ncnn import NcnnFormat, check_layers
from mbdet.export.segmentation import SegmentationExport
from mbdet.models import LRASPP, SSDFPN, DeepLabV3, Segmenter, SSDLite
from mbdet.ops import Postprocess
from mbdet.runtime.load import load_file
from mbdet.runtime.ncnn import NcnnFile
from mbdet.testing import settle


def softmax_detector() -> Export[Any]:
    export = DetectionExport(
        SSDLite(MobileNetV3("small"), 3, SIZE, extra_channels=(32, 16)), Postprocess("softmax", score_threshold=0.1)
    )
    settle(export.network)
    for head in [*export.network.box_heads, *export.network.class_heads]:
        nn.init.normal_(head.last.weight, std=0.15)
    return export


def pyramid() -> Export[Any]:
    network = settle(SSDFPN(MobileNetV2(0.35), 3, SIZE, neck_channels=16, tower_channels=16, tower_layers=2))
    for head in (network.box_head, network.class_head):
        nn.init.normal_(head.last.weight, std=0.5)
    return DetectionExport(network, Postprocess())


def lraspp() -> Export[Any]:
    backbone = MobileNetV3("small", reduced_tail="segmentation", output_stride=16)
    network = settle(LRASPP(backbone, 3, SIZE, channels=16, pool_size=(3, 3), pool_stride=(2, 2)))
    for layer in (network.low_classifier, network.high_classifier):
        nn.init.normal_(layer.weight, std=1.0)
    return SegmentationExport(network, "stretch")


def deeplab() -> Export[Any]:
    backbone = MobileNetV2(0.35, last_channels=None, output_stride=16, padding="same")
    network = settle(DeepLabV3(backbone, 3, SIZE, channels=16, low_level="c2_depthwise", aux="c4"))
    nn.init.normal_(network.classifier.weight, std=1.0)
    return SegmentationExport(network, "fit")


def write(export: Export[Any], path: Path, precision: Precision = "fp32", probabilities: bool = False) -> Any:
    order = Order(export, Form(nms=False, argmax=False, probabilities=probabilities), NAMES, precision)
    return write_verified(NcnnFormat(), order, export, path, scenes())


@pytest.mark.parametrize(
    "make",
    [
        *(pytest.param(partial(small_export, kind), id=kind) for kind in KINDS if kind != "detection"),
        *(pytest.param(make, marks=pytest.mark.slow) for make in (softmax_detector, pyramid, lraspp)),
    ],
)
def test_every_kind_of_network(make: Callable[[], Export[Any]], tmp_path: Path) -> None:
    torch.manual_seed(0)
    export = make()
    path = tmp_path / "m.ncnn.param"
    parity = write(export, path, probabilities=isinstance(export, SegmentationExport))
    counted = getattr(parity, "detection", parity)
    assert getattr(counted, "detections", 50) >= 50
    assert load_file(path).kind == export.network.kind
    assert {file.name for file in tmp_path.iterdir()} == {"m.ncnn.param", "m.ncnn.bin", "m.ncnn.param.json"}


def test_a_detector_and_its_description(tmp_path: Path) -> None:
    torch.manual_seed(0)
    assert write(small_export("detection"), tmp_path / "m.ncnn.param").detections >= 50
    description = json.loads((tmp_path / "m.ncnn.param.json").read_text())
    size = sum((tmp_path / name).stat().st_size for name in ("m.ncnn.param", "m.ncnn.bin"))
    assert description["bytes"] == size
    assert description["input"]["size"] == list(SIZE)
    assert {name: description["input"][name] for name in ("name", "batch", "layout", "dtype")} == {
        "name": "in0",
        "batch": 1,
        "layout": "CHW",
        "dtype": "float32",
    }
    assert description["blobs"] == {"anchor_boxes": "out0", "class_scores": "out1"}


def test_half_precision_stores_half_the_bytes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    export, found = deeplab(), {}
    for precision in ("fp32", "fp16"):
        path = tmp_path / precision / "m.ncnn.param"
        write(export, path, precision)
        found[precision] = path.with_suffix(".bin").stat().st_size, NcnnFile(path).compute(scenes(1))["logits"]
    assert found["fp16"][0] < 0.6 * found["fp32"][0]
    errors = np.abs(found["fp16"][1] - found["fp32"][1])
    assert 0 < errors.max() < 0.02 * np.abs(found["fp32"][1]).max()


class Sorting(Segmenter):
    """Does something that neither pnnx nor ncnn knows as a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.input_size = SIZE
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor) -> object:
        return type("Output", (), {"logits": (images.float() * self.weight).sort(dim=1).values})()

    def from_features(self, features: object, size: object) -> object:
        raise NotImplementedError


def test_what_ncnn_has_no_layer_for_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ncnn has no layer for .*sort.* \(.*\); export to another format"):
        write(SegmentationExport(Sorting(), "stretch"), tmp_path / "m.ncnn.param")
    assert list(tmp_path.iterdir()) == []


def test_known_and_unknown_layers(tmp_path: Path) -> None:
    path = tmp_path / "m.ncnn.param"
    known = "7767517\n2 2\nInput in0 0 1 in0\nReLU act 1 1 in0 out0\n"
    path.write_text(known)
    check_layers(path)
    path.write_text(f"{known}pnnx.Expression add_1 1 1 out0 out1\naten::foo foo_2 1 1 out1 out2\n")
    with pytest.raises(InputError, match=r"no layer for pnnx\.Expression \(add_1\), aten::foo \(foo_2\);"):
        check_layers(path)


def test_a_network_that_pnnx_cannot_convert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "pnnx"
    program.write_text("#!/bin/sh\necho chatter\necho unknown thing >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr("pnnx.EXEC_PATH", str(program))
    with pytest.raises(InputError, match=r"pnnx cannot convert the network to ncnn \(unknown thing\)"):
        write(small_export("classification"), tmp_path / "m.ncnn.param")


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ({"precision": "int8"}, "ncnn files are written in fp32, fp16, not in int8"),
        ({"form": Form(nms=True, argmax=False)}, "ncnn have no non-maximum suppression"),
        ({"dynamic_batch": True}, "ncnn files take one image at a time"),
    ],
)
def test_what_the_format_cannot_do(order: dict, message: str, tmp_path: Path) -> None:
    export = small_export("classification")
    ordered = Order(**{"export": export, "form": Form(nms=False, argmax=False), "class_names": NAMES, **order})
    with pytest.raises(InputError, match=message):
        write_verified(NcnnFormat(), ordered, export, tmp_path / "m.ncnn.param", scenes())
