"""Every model of the zoo and of the configs becomes a verified file, without a word for a user to interpret."""

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from packages import output_types, specification, stated_types

from mbdet.config import ConfigCLI
from mbdet.data.shapes import draw_scene
from mbdet.export.base import Export, Form
from mbdet.export.detection import DetectionExport
from mbdet.export.format import Order, write_verified
from mbdet.export.formats import NAMES, find_format
from mbdet.models import SSDLite, zoo
from mbdet.ops import Postprocess
from mbdet.testing import settle
from mbdet.types import SegmenterOutput

MODELS = [getattr(zoo, name) for name in dir(zoo) if "ssdlite_mobilenet" in name and not name.startswith("_")]
CONFIGS = Path(__file__).parents[2] / "configs"
# What makes no other graph of a network.
INDIFFERENT = {"num_classes", "input_size", "class_bias_init", "bn_eps", "bn_momentum", "mean", "std", "last_channels"}

# What Python itself shows to nobody but developers.
HIDDEN = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)


def distinct_configs() -> list[Path]:
    """Return a config of each network, whatever its data and its recipe."""

    def structure(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: structure(inner) for key, inner in value.items() if key not in INDIFFERENT}
        return value

    found = dict[str, Path]()
    for path in sorted(CONFIGS.glob("*.yaml")):
        network = yaml.safe_load(path.read_text())["model"]["init_args"]["network"]
        found.setdefault(json.dumps(structure(network), sort_keys=True), path)
    return list(found.values())


def check_export(export: Export[Any], name: str, classes: int, folder: Path) -> str:
    """Write a verified file, and return the warnings that a user would see."""
    target = find_format(name)
    path = folder / f"model{target.suffix}"
    images = scene(export.network.input_size)
    order = Order(export, Form(target.nms, target.argmax), [str(label) for label in range(classes)])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        parity = write_verified(target, order, export, path, images)
    if name == "coreml" and sys.platform != "darwin":
        assert parity is None
        description = json.loads(path.with_name(f"{path.name}.json").read_text())
        assert output_types(specification(path).description) == stated_types(description)
    else:
        assert parity is not None
        assert parity.share > 0.999  # of a map, what rounding does not decide
        objects, maps = getattr(parity, "detection", parity), getattr(parity, "segmentation", parity)
        assert getattr(objects, "detections", 21) > 20
        assert getattr(maps, "classes", 2) > 1
    return "".join(str(each.message) for each in caught if not issubclass(each.category, HIDDEN))


def scene(size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a picture (1, 3, H, W)."""
    return np.ascontiguousarray(draw_scene(0, 1, 0, *size).image.transpose(2, 0, 1)[None])


def make_export(build: Callable[..., SSDLite]) -> DetectionExport:
    """Return a model of the zoo with few classes, at its own size."""
    torch.manual_seed(0)
    network = settle(build(num_classes=3))
    spread(network)
    return DetectionExport(network, Postprocess())


def spread(network: torch.nn.Module) -> None:
    """Let a network without training find something: predictions, outside the backbone, are what has biases."""
    for name, layer in network.named_modules():
        if isinstance(layer, torch.nn.Conv2d) and layer.bias is not None and not name.startswith("backbone"):
            torch.nn.init.normal_(layer.weight, std=0.05)
            torch.nn.init.zeros_(layer.bias)
    network.eval()
    with torch.no_grad():
        output = network(torch.from_numpy(scene(network.input_size)))
    maps = output if isinstance(output, SegmenterOutput) else getattr(output, "segmentation", None)
    if maps is not None:
        level(network, maps.logits)


def level(network: torch.nn.Module, logits: torch.Tensor) -> None:
    """Give the logits of a segmenter, which are sums of its predictions, means of 0 and deviations of 1."""
    predictions = [
        layer
        for name, layer in network.named_modules()
        if isinstance(layer, torch.nn.Conv2d) and name.endswith("classifier") and "aux" not in name
    ]
    mean, deviation = logits.mean((0, 2, 3)), logits.std()
    with torch.no_grad():
        for layer in predictions:
            layer.weight /= deviation
            layer.bias.copy_(-mean / deviation / len(predictions))


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(build, marks=[] if build is zoo.ssdlite_mobilenet_v3_small else pytest.mark.slow)
        for build in MODELS
    ],
    ids=lambda build: build.__name__,
)
def test_to_onnx(build: Callable[..., SSDLite], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert check_export(make_export(build), "onnx", 3, tmp_path) == ""
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name != "onnx"])
def test_the_smallest_to_all_others(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert check_export(make_export(zoo.ssdlite_mobilenet_v3_small), name, 3, tmp_path) == ""
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["onnx", "coreml"])
@pytest.mark.parametrize("config", distinct_configs(), ids=lambda path: path.stem)
def test_every_network_of_the_configs(
    config: Path, name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    size = "[160,160]"
    torch.manual_seed(0)
    smaller = [f"--model.network.input_size={size}", f"--data.input_size={size}"]
    task = ConfigCLI(config, [] if "multitask" in config.stem else smaller).task
    settle(task.network)
    spread(task.network)
    capfd.readouterr()  # of building
    assert check_export(task.export(), name, 80, tmp_path) == ""
    assert capfd.readouterr() == ("", "")


def test_there_are_models() -> None:
    assert len(MODELS) == 5
    assert len(distinct_configs()) > 20
