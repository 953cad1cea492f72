"""Listing, showing and converting weights."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torchvision.models import mobilenet_v2
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

from mbdet.backbones import MobileNetV2, MobileNetV3
from mbdet.cli import main
from mbdet.config import ConfigCLI
from mbdet.errors import InputError
from mbdet.models import LRASPP, Classifier, SSDLite
from mbdet.models.classifier import HiddenAct
from mbdet.weights import PUBLISHED, load_backbone_weights, load_weights

CONFIG = str(Path(__file__).parents[2] / "configs" / "ssdlite_v2_300_tf_coco.yaml")

CLASSIFIER = """
model:
  class_path: mbdet.tasks.ClassificationTask
  init_args:
    network:
      class_path: mbdet.models.Classifier
      init_args:
        backbone:
          class_path: mbdet.backbones.MobileNetV3
          init_args: {{variant: small, minimalistic: {minimalistic}, padding: same}}
        num_classes: 3
        hidden_channels: 1024
        hidden_act: {act}
    optimizer:
      class_path: torch.optim.SGD
      init_args: {{lr: 0.1}}
data:
  class_path: mbdet.data.ImageFolderDataModule
  init_args: {{root: {root}}}
"""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return torchvision's MobileNetV2 with random weights."""
    path = tmp_path_factory.mktemp("weights") / "v2.pth"
    torch.manual_seed(0)
    torch.save(mobilenet_v2(num_classes=3).state_dict(), path)
    return path


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line and not line.startswith(" ")] == list(PUBLISHED)
    entry = lines.index("timm/tf_mobilenetv3_small_100.in1k")
    assert "MobileNetV3('small'); padding same, bn_eps 0.001" in lines[entry + 1]
    assert "mean 127.5 127.5 127.5, std 127.5 127.5 127.5" in lines[entry + 2]
    assert "(37f49e2b)" in lines[entry + 5]
    assert sum("to be fetched by hand" in line for line in lines) == sum(w.sha256 is None for w in PUBLISHED.values())


def test_show(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "show", str(published)]) == 0
    out = capsys.readouterr().out
    assert "v2.pth: torchvision's MobileNetV2 weights\n  padding: symmetric\n  bn_eps: 1e-05\n" in out
    assert "mean: [123.675, 116.28, 103.53]" in out
    assert "backbone.blocks.0.depthwise.conv.weight" in out
    assert "(32, 1, 3, 3)" in out
    assert out.index("backbone.blocks.9.expand") < out.index("backbone.blocks.10.expand")


def test_convert(published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "new" / "v2.safetensors"
    assert main(["weights", "convert", str(published), str(output)]) == 0
    assert "from torchvision's MobileNetV2 weights" in capsys.readouterr().out
    assert list(output.parent.iterdir()) == [output]
    with safe_open(output, "pt") as file:
        assert file.metadata() == {
            "origin": "torchvision's MobileNetV2 weights",
            "padding": "symmetric",
            "bn_eps": "1e-05",
            "mean": "[123.675, 116.28, 103.53]",
            "std": "[58.395, 57.12, 57.375]",
        }
    expected, found = MobileNetV2(), MobileNetV2()
    load_backbone_weights(expected, published)
    load_backbone_weights(found, output)
    torch.testing.assert_close(dict(found.state_dict()), dict(expected.state_dict()), rtol=0, atol=0)
    assert load_file(output)["logits.bias"].shape == (3,)


def test_what_was_converted_keeps_its_needs(published: Path, tmp_path: Path) -> None:
    output = tmp_path / "v2.safetensors"
    assert main(["weights", "convert", str(published), str(output)]) == 0
    with pytest.raises(InputError, match=r"need padding: symmetric"):
        load_backbone_weights(MobileNetV2(padding="same"), output)
    with pytest.raises(InputError, match=r"need bn_eps: 1e-05"):
        load_backbone_weights(MobileNetV2(bn_eps=1e-3), output)


@pytest.mark.parametrize(("minimal", "act", "other"), [("minimal_", "relu", "hard_swish"), ("", "hard_swish", "relu")])
@pytest.mark.parametrize("with_config", [False, True])
def test_the_hidden_activation_is_converted_too(
    with_config: bool, minimal: str, act: HiddenAct, other: HiddenAct, tmp_path: Path
) -> None:
    """With or without squeeze-and-excite, from which it could be guessed."""
    theirs = timm.create_model(f"tf_mobilenetv3_small_{minimal}100", num_classes=3, pretrained=False)
    timm.models.save_for_hf(theirs, tmp_path / "hub", safe_serialization=True)
    config, output = tmp_path / "config.yaml", tmp_path / "out.safetensors"
    config.write_text(CLASSIFIER.format(minimalistic=bool(minimal), act=act, root=tmp_path))
    arguments = ["--config", str(config)] if with_config else []
    assert main(["weights", "convert", str(tmp_path / "hub" / "model.safetensors"), str(output), *arguments]) == 0
    with safe_open(output, "pt") as file:
        assert file.metadata()["hidden_act"] == act
    backbone = MobileNetV3("small", bool(minimal), padding="same")
    load_weights(Classifier(backbone, 3, hidden_channels=1024, hidden_act=act), output)
    with pytest.raises(InputError, match=rf"its weights need hidden_act: {act}, the network has {other}"):
        load_weights(Classifier(backbone, 3, hidden_channels=1024, hidden_act=other), output)


def test_convert_with_a_config(tmp_path: Path) -> None:
    """The network's own names and slots, and what it was built with."""
    network = SSDLite(MobileNetV2(scale_last=True, padding="same", bn_eps=1e-3), 80, (300, 300), padding="same")
    torch.save(network.state_dict(), tmp_path / "w.pth")
    output = tmp_path / "out.safetensors"
    assert main(["weights", "convert", str(tmp_path / "w.pth"), str(output), "--config", CONFIG]) == 0
    again = SSDLite(MobileNetV2(scale_last=True, padding="same", bn_eps=1e-3), 80, (300, 300), padding="same")
    load_weights(again, output)
    torch.testing.assert_close(dict(again.state_dict()), dict(network.state_dict()), rtol=0, atol=0)
    with safe_open(output, "pt") as file:
        assert file.metadata()["padding"] == "same"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "no.pth"], "no.pth: no such weight file or published name"),
        (["show", "google/v3-large_224_1.0_float"], "states no checksum, so it is not downloaded; fetch https://"),
        (["convert", "V2", "out.pth"], "out.pth: a safetensors file is called something.safetensors"),
        (["convert", "OTHER", "out.safetensors"], "other.pth: not weights of a network that mbdet knows"),
        (["convert", "V2", "out.safetensors", "--config", CONFIG], "are not those of a whole detector"),
        (["convert", "V2", "/dev/null/out.safetensors"], "out.safetensors: cannot be written"),
    ],
)
def test_bad_input(
    arguments: list[str],
    message: str,
    published: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "other.pth")
    paths = {"V2": str(published), "OTHER": str(tmp_path / "other.pth")}
    assert main(["weights", *(paths.get(argument, argument) for argument in arguments)]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))


def test_an_interrupted_write_leaves_the_old_file(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "v2.safetensors"
    output.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("mbdet.weights.files.save_file", fail)
    assert main(["weights", "convert", str(published), str(output)]) == 2
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_what_has_no_place_is_left_out(published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "more.pth"
    torch.save(torch.load(published) | {"Teacher|logits": torch.zeros(1)}, source)
    assert main(["weights", "convert", str(source), str(tmp_path / "v2.safetensors")]) == 0
    out = capsys.readouterr().out
    assert "left out, as they have no place in a network of ours: Teacher|logits\n" in out
    load_backbone_weights(MobileNetV2(), tmp_path / "v2.safetensors")


def test_a_segmenter_is_converted_with_both_constants(tmp_path: Path) -> None:
    theirs, output = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None), tmp_path / "out.safetensors"
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    assert main(["weights", "convert", str(tmp_path / "w.pth"), str(output)]) == 0
    head = {"pool_size": None, "low_level": "c3_first", "gate_bias": False}
    load_weights(LRASPP(MobileNetV3(), 21, **head), output)
    with pytest.raises(InputError, match=r"need bn_eps: 1e-05 in the heads, the network has 0\.001"):
        load_weights(LRASPP(MobileNetV3(), 21, bn_eps=1e-3, **head), output)


def test_weights_of_two_heads_with_constants_of_their_own(tmp_path: Path) -> None:
    """SSDLite's default is 1e-3 and LR-ASPP's 1e-5."""
    config = str(Path(CONFIG).with_name("multitask_v2_voc.yaml"))
    network = ConfigCLI(Path(config)).task.network
    torch.save(network.state_dict(), tmp_path / "w.pth")
    output = tmp_path / "out.safetensors"
    assert main(["weights", "convert", str(tmp_path / "w.pth"), str(output), "--config", config]) == 0
    load_weights(network, output)
