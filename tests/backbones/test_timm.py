"""timm's networks as backbones: against timm itself, and against ours with the same weights."""

import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import mbdet
from mbdet.backbones import Backbone, MobileNetV2, MobileNetV3, TimmBackbone
from mbdet.cli import main
from mbdet.errors import InputError
from mbdet.models import SSDLite
from mbdet.testing import check_backbone, random_images, settle

CONFIG = """
model:
  class_path: mbdet.tasks.DetectionTask
  init_args:
    network:
      class_path: mbdet.models.SSDLite
      init_args:
        backbone:
          class_path: mbdet.backbones.TimmBackbone
          init_args: {{name: {name}}}
        num_classes: 6
        input_size: [64, 64]
        taps: [{taps}]
        extra_channels: [32, 32]
    loss:
      class_path: mbdet.ops.FocalSSDLoss
    optimizer:
      class_path: torch.optim.SGD
      init_args: {{lr: 0.01}}
data:
  class_path: mbdet.data.CocoDataModule
  init_args:
    root: {root}
    input_size: [64, 64]
    train_split: train
    val_split: val
    batch_size: 2
    num_workers: 0
trainer:
  max_steps: 2
  max_epochs: 1
  accelerator: cpu
  limit_val_batches: 1
  enable_progress_bar: false
"""


@pytest.mark.parametrize(
    ("name", "output_stride"),
    [
        ("mobilenetv3_small_050", 32),
        ("mobilenetv2_050", 16),
        ("tf_mobilenetv3_small_minimal_100", 32),  # TensorFlow's padding
        ("resnet18", 16),
    ],
)
def test_keeps_the_contract(name: str, output_stride: int) -> None:
    check_backbone(partial(TimmBackbone, name, output_stride))


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "mobilenetv2_050", "efficientnet_lite0", "mnasnet_small"])
def test_maps_are_those_of_timm_and_of_its_layers(name: str) -> None:
    network = settle(TimmBackbone(name))
    images = random_images(network)
    seen: list[Tensor] = []
    block = network.body.blocks[network._c4_stages][0]
    assert block.conv_dw.stride == (2, 2)
    block.bn1.register_forward_hook(lambda _module, _inputs, output: seen.append(output.clone()))
    with torch.no_grad():
        found = network(images)
        expected = network.body(network.normalize(images))[-3:]
    torch.testing.assert_close([found["c3"], found["c4"], found["c5"]], expected, rtol=0, atol=0)
    torch.testing.assert_close([found["c4_expand"]] * 2, seen, rtol=0, atol=0)  # once for us and once for timm


@pytest.mark.parametrize(
    ("name", "ours", "expanded"),
    [
        ("mobilenetv3_large_100", MobileNetV3(bn_eps=1e-5), 672),
        ("mobilenetv2_100", MobileNetV2(last_channels=None), 576),
    ],
)
def test_equals_our_network_with_the_same_weights(name: str, ours: Backbone, expanded: int) -> None:
    theirs = settle(TimmBackbone(name))
    # Both list their layers from the image on, so the order alone maps one to the other.
    names = [name for name in ours.state_dict() if not name.startswith("normalize.")]
    ours.load_state_dict(dict(zip(names, theirs.body.state_dict().values(), strict=True)), strict=False)
    images = random_images(ours)
    with torch.no_grad():
        found, expected = theirs(images), ours.eval()(images)
    assert list(found) == ["c3", "c4", "c4_expand", "c5"]
    assert theirs.specs["c4_expand"] == (expanded, 16)
    for tap, feature in found.items():
        assert theirs.specs[tap] == ours.specs[tap]
        torch.testing.assert_close(feature, expected[tap], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "output_stride", "strides"),
    [
        ("resnet18", 8, {"c3": 8, "c4": 8, "c5": 8}),
        ("convnext_atto", 16, {"c3": 8, "c4": 16, "c5": 16}),
        ("vgg11", 32, {"c3": 8, "c4": 16, "c5": 32}),
        ("mobilenetv4_conv_small", 32, {"c3": 8, "c4": 16, "c5": 32}),  # its expansions come after a depthwise layer
        ("efficientnet_lite0", 16, {"c3": 8, "c4": 16, "c4_expand": 16, "c5": 16}),
    ],
)
def test_levels(name: str, output_stride: int, strides: dict[str, int]) -> None:
    with torch.device("meta"):
        network = TimmBackbone(name, output_stride)
    assert {name: spec.stride for name, spec in network.specs.items()} == strides


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [("tf_mobilenetv3_small_minimal_100", [127.5] * 3, [127.5] * 3), ("resnet18", [123.675, 116.28, 103.53], None)],
)
def test_normalisation_is_that_of_timm_s_weights(name: str, mean: list[float], std: list[float] | None) -> None:
    normalize = TimmBackbone(name).normalize
    torch.testing.assert_close(normalize.mean.flatten(), torch.tensor(mean))
    torch.testing.assert_close(normalize.std.flatten(), torch.tensor(std or [58.395, 57.12, 57.375]))
    own = TimmBackbone(name, mean=(1, 2, 3), std=(4, 5, 6)).normalize
    assert own.mean.flatten().tolist() == [1, 2, 3]
    assert own.std.flatten().tolist() == [4, 5, 6]


def test_the_expansion_is_missed_where_there_is_none() -> None:
    with torch.device("meta"):
        assert SSDLite(TimmBackbone("mobilenetv3_small_050"), 3).backbone.specs["c4_expand"].channels == 144
        with pytest.raises(ValueError, match=r"taps \['c4_expand'\] .* gives \['c3', 'c4', 'c5'\]"):
            SSDLite(TimmBackbone("resnet18"), 3)


@pytest.mark.parametrize(
    ("name", "output_stride", "message"),
    [
        ("mobilenetv3_larg_100", 32, "no network 'mobilenetv3_larg_100'; it has, for example, mobilenetv3_large_100"),
        ("resnet18.nobody", 32, r"Invalid pretrained tag \(nobody\)"),
        ("vit_tiny_patch16_224", 32, r"gives maps at strides \[16, 16, 16\]"),
        ("swin_tiny_patch4_window7_224", 32, "one size only"),
        ("ghostnet_100", 16, "no backbone with output_stride 16"),
        ("vgg11", 16, "cannot be dilated"),
    ],
)
def test_what_is_no_backbone_is_refused(name: str, output_stride: int, message: str) -> None:
    with torch.device("meta"), pytest.raises(InputError, match=message):
        TimmBackbone(name, output_stride)


def test_sizes_that_a_patch_network_rounds_down_are_refused() -> None:
    network = TimmBackbone("convnext_atto").eval()
    assert network(torch.zeros(1, 3, 64, 96))["c5"].shape[-2:] == (2, 3)
    with pytest.raises(ValueError, match=r"map of \(2, 3\) cells, not \(3, 3\), .* that 32 divides"):
        network(torch.zeros(1, 3, 65, 96))


def test_without_timm_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"pip install 'mbdet\[timm\]'"):
        TimmBackbone("resnet18")


@pytest.mark.parametrize(("name", "taps"), [("resnet18", "c4, c5"), ("efficientnet_lite0", "c4_expand, c5")])
def test_trains_from_a_config_and_loads_again(name: str, taps: str, shapes: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.format(name=name, taps=taps, root=shapes))
    assert main(["train", str(config), "--run_dir", str(tmp_path / "run")]) == 0
    detector = mbdet.load(str(tmp_path / "run" / "checkpoints" / "last.ckpt"))
    batch_norms = [layer for layer in detector.network.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert detector.network.backbone.name == name
    assert {int(layer.num_batches_tracked) for layer in batch_norms} == {2}
