"""What Core ML's converter gets, and what its packages say: they can be run on a Mac alone."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from packages import output_types, specification, stated_types
from small_exports import KINDS, NAMES, SIZE, scenes, small_order

from mbdet.errors import InputError
from mbdet.export.format import Order, write_verified

pytest.importorskip("coremltools")

from mbdet.export.coreml import CoreMLFormat, trace

ANCHORS = len(small_order("detection", nms=False).export.network.anchors)
OBJECTS = {"anchor_boxes": ("FLOAT32", [1, ANCHORS, 4]), "class_scores": ("FLOAT32", [1, ANCHORS, 3])}
MAPS = {"classes": ("INT32", [1, *SIZE])}
OUTPUTS = {
    "detection": OBJECTS,
    "segmentation": MAPS,
    "classification": {"probabilities": ("FLOAT32", [1, 3])},
    "multitask": OBJECTS | MAPS,
}


pytestmark = pytest.mark.skipif(sys.platform == "darwin", reason="a Mac would run the packages")


def operators(spec: Any) -> list[Any]:
    (block,) = spec.mlProgram.functions["main"].block_specializations.values()
    return list(block.operations)


@pytest.fixture(scope="module")
def programs() -> dict[str, tuple[Order, torch.export.ExportedProgram]]:
    """Return what was converted for each task, filled as the packages are written."""
    return {}


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, programs: dict[str, tuple[Order, torch.export.ExportedProgram]]
) -> Path:
    """Return a folder with a package of each task, that of the detector in half precision."""
    folder = tmp_path_factory.mktemp("coreml")
    for kind in KINDS:

        def remembered(order: Order, kind: str = kind) -> torch.export.ExportedProgram:
            programs[kind] = order, trace(order)
            return programs[kind][1]

        order = small_order(kind, nms=False, precision="fp16" if kind == "detection" else "fp32")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("mbdet.export.coreml.trace", remembered)
            parity = write_verified(CoreMLFormat(), order, order.export, folder / f"{kind}.mlpackage", scenes(1))
        assert parity is None
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_the_converter_gets_what_the_network_computes(folder: Path, programs: dict[str, Any], kind: str) -> None:
    order, program = programs[kind]
    for image in torch.from_numpy(scenes()).float().split(1):
        found = program.module()(image)
        with torch.no_grad():
            expected = order.module(image)
        for actual, wanted in zip(found, expected, strict=True):
            torch.testing.assert_close(actual, wanted, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_package_takes_images_and_names_its_outputs(folder: Path, kind: str) -> None:
    description = specification(folder / f"{kind}.mlpackage").description
    (image,) = description.input
    assert image.name == "images"
    assert (image.type.imageType.height, image.type.imageType.width) == SIZE
    colours = type(image.type.imageType).ColorSpace
    assert colours.Name(image.type.imageType.colorSpace) == "RGB"
    assert output_types(description) == OUTPUTS[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_a_package_describes_itself(folder: Path, kind: str) -> None:
    description = specification(folder / f"{kind}.mlpackage").description
    within = json.loads(description.metadata.userDefined["mbdet"])
    beside = json.loads((folder / f"{kind}.mlpackage.json").read_text())
    assert beside.pop("parity") is None
    assert beside.pop("bytes") > 100_000
    assert within == beside
    assert within["class_names"] == list(NAMES)
    assert within["input"]["layout"] == "image"
    assert description.metadata.shortDescription == f"{kind} of 3 classes"
    assert {output.name: output.shortDescription for output in description.output} == within["output"]
    assert stated_types(within) == OUTPUTS[kind]


def test_half_precision_ends_with_the_last_convolution(folder: Path) -> None:
    spec = specification(folder / "detection.mlpackage")
    half = {  # names of values of 16 bits
        output.name
        for operator in operators(spec)
        for output in operator.outputs
        if output.type.tensorType.dataType == 10
    }
    by_type = {kind: [op for op in operators(spec) if op.type == kind] for kind in ("conv", "exp", "sigmoid", "clip")}
    assert all(operator.outputs[0].name in half for operator in by_type["conv"])
    assert not any(operator.outputs[0].name in half for kind in ("exp", "sigmoid") for operator in by_type[kind])
    anchors = [
        output
        for operator in operators(spec)
        for output in operator.outputs
        if operator.type == "const" and [d.constant.size for d in output.type.tensorType.dimensions] == [ANCHORS, 2]
    ]
    assert not any(output.name in half for output in anchors)


def test_8_bits_are_of_the_weights_of_layers_that_are_not_named(tmp_path: Path) -> None:
    kept = ("class_heads", "backbone.blocks.12.pointwise.conv")
    order = small_order("detection", nms=False, precision="int8", calibration=scenes(1), float_layers=kept)
    description = CoreMLFormat().write(order, tmp_path / "m.mlpackage")
    assert description["arithmetic"].startswith("weights in 8 bits; activations in half precision")
    found = Counter(operator.type for operator in operators(specification(tmp_path / "m.mlpackage")))
    layers = [
        (name, layer.weight.numel())
        for name, layer in order.export.network.named_modules()
        if isinstance(layer, torch.nn.Conv2d)
    ]
    large = [name for name, size in layers if size > 2048]
    rounded = [name for name in large if not name.startswith(kept)]
    assert 0 < len(rounded) < len(large)
    assert found["constexpr_affine_dequantize"] == len(rounded)
    assert found["conv"] == len(layers)


def test_what_is_not_core_ml_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise NotImplementedError("Unsupported fx node whirl")

    monkeypatch.setattr("coremltools.convert", fail)
    with pytest.raises(InputError, match=r"Core ML's converter refuses the network \(Unsupported fx node whirl\)"):
        CoreMLFormat().write(small_order("classification", nms=False), tmp_path / "m.mlpackage")
