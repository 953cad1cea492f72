import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mbdet.backbones import MobileNetV2, TimmBackbone
from mbdet.checkpoint import load_checkpoint
from mbdet.errors import InputError
from mbdet.models import LRASPP, Classifier, MultiTask, Network, SSDLite
from mbdet.predictor import TorchClassifier, TorchMultiTask, TorchPredictor

NETWORK: dict[str, Any] = {
    "class_path": "mbdet.models.SSDLite",
    "init_args": {
        "backbone": {"class_path": "mbdet.backbones.MobileNetV2", "init_args": {"width_mult": 0.35}},
        "num_classes": 3,
        "input_size": [64, 64],
    },
}


def save(path: Path, **content: object) -> Path:
    torch.save(content, path)
    return path


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a module on the path that ends the process when it is imported."""
    (tmp_path / "evilmod.py").write_text("raise SystemExit('ran')")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("evil")
@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ({"class_path": "evilmod.B"}, r"needs evilmod\.B; import evilmod first if you trust it"),
        ({"class_path": '"evilmod\\u002eB"'}, "needs "),
        ({"init_args": {"class_path": "evilmod.B"}}, r"needs evilmod\.B; import evilmod first"),
        ("evilmod.B", "network.backbone is text where its type has none"),
        ({"init_args": ["evilmod.B"]}, "network.backbone.init_args is text where its type has none"),
        ('{"class_path": "evilmod\\u002eB"}', "network.backbone is text where its type has none"),
        ('{"class_path": "evilmod\\u002eB", "init_args": {}}', "network.backbone is text where its type has none"),
        ("evil.yaml", "network.backbone is text where its type has none"),
        (
            {"class_path": "mbdet.backbones.TimmBackbone", "init_args": {"name": "local-dir:/somewhere"}},
            "name is 'local-dir:/somewhere', a place to read from",
        ),
    ],
)
def test_a_module_that_nobody_imported_is_not_imported(tmp_path: Path, backbone: object, message: str) -> None:
    network = {"class_path": "mbdet.models.SSDLite", "init_args": {**NETWORK["init_args"], "backbone": backbone}}
    path = save(tmp_path / "a.ckpt", hyper_parameters={"network": network}, state_dict={"a": torch.zeros(1)})
    with pytest.raises(InputError, match=message):
        load_checkpoint(path)


@pytest.mark.parametrize("option", ["postprocess", "anchors"])
def test_no_other_file_is_read_for_a_description(tmp_path: Path, option: str) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("{}\n")
    network: dict[str, Any] = {**NETWORK, "init_args": {**NETWORK["init_args"]}}
    options: dict[str, Any] = {"network": network}
    (options if option == "postprocess" else network["init_args"])[option] = str(other)
    state = build().state_dict()
    path = save(tmp_path / "a.ckpt", hyper_parameters=options, state_dict=state)
    with pytest.raises(InputError, match=f"{option} is text where its type has none"):
        load_checkpoint(path, "cpu")


def test_a_whole_description_in_one_text_is_none(tmp_path: Path) -> None:
    path = save(tmp_path / "a.ckpt", hyper_parameters={"network": json.dumps(NETWORK)}, state_dict={})
    with pytest.raises(InputError, match="does not describe its network"):
        load_checkpoint(path)


def build() -> SSDLite:
    return SSDLite(MobileNetV2(0.35), 3, (64, 64))


def test_a_detector_is_built_with_its_decoding(tmp_path: Path) -> None:
    options = {"network": NETWORK, "postprocess": {"scores": "sigmoid", "score_threshold": 0.25}}
    path = save(tmp_path / "a.ckpt", hyper_parameters=options, state_dict=build().state_dict())
    predictor = load_checkpoint(path, "cpu")
    assert isinstance(predictor, TorchPredictor)
    assert predictor.postprocess.score_threshold == 0.25


def test_a_timm_name_with_a_dot_and_no_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")
    name = "efficientnet_lite0.ra_in1k"
    network = Classifier(TimmBackbone(name), 3, (64, 64))
    backbone = {"class_path": "mbdet.backbones.TimmBackbone", "init_args": {"name": name, "pretrained": True}}
    described = {**CLASSIFIER, "init_args": {**CLASSIFIER["init_args"], "backbone": backbone}}
    path = save(tmp_path / "a.ckpt", hyper_parameters={"network": described}, state_dict=network.state_dict())
    asked = []
    create = timm.create_model

    def create_offline(name: str, *, pretrained: bool, **options: Any) -> Any:
        asked.append(pretrained)
        return create(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", create_offline)
    assert load_checkpoint(path, "cpu").input_size == (40, 48)
    assert asked == [False]


def test_a_class_that_is_no_network_is_not_built(tmp_path: Path) -> None:
    network = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", str(tmp_path / "ran")]}}
    path = save(tmp_path / "a.ckpt", hyper_parameters={"network": network}, state_dict={"a": torch.zeros(1)})
    import subprocess  # noqa: F401 -- imported, so that the name alone would be trusted

    with pytest.raises(InputError, match=r"a\.ckpt: its network cannot be built"):
        load_checkpoint(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [{"state_dict": {"a": torch.zeros(1)}}, {"hyper_parameters": {}}, {"a": 1}])
def test_a_checkpoint_without_a_description(tmp_path: Path, content: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"does not describe its network; give its config too"):
        load_checkpoint(save(tmp_path / "a.ckpt", **content))


def test_weights_must_fit_the_description(tmp_path: Path) -> None:
    path = save(tmp_path / "a.ckpt", hyper_parameters={"network": NETWORK}, state_dict={"box_heads.x": torch.zeros(1)})
    with pytest.raises(InputError, match="do not fit this network"):
        load_checkpoint(path)


CLASSIFIER: dict[str, Any] = {
    "class_path": "mbdet.models.Classifier",
    "init_args": {
        "backbone": {"class_path": "mbdet.backbones.MobileNetV2", "init_args": {"width_mult": 0.35}},
        "num_classes": 3,
        "input_size": [40, 48],
    },
}


def test_any_network_of_ours_is_built_with_what_its_predictor_takes(tmp_path: Path) -> None:
    network = Classifier(MobileNetV2(0.35), 3, (40, 48)).eval()
    state = {f"network.{name}": value for name, value in network.state_dict().items()}
    options = {"network": CLASSIFIER, "eval_crop": 0.5, "label_smoothing": 0.1, "optimizer": {"class_path": "evil.SGD"}}
    path = save(tmp_path / "a.ckpt", hyper_parameters=options, state_dict=state, class_names=["a", "b", "c"])
    predictor = load_checkpoint(path, "cpu")
    assert isinstance(predictor, TorchClassifier)
    assert (predictor.class_names, predictor.input_size, predictor.eval_crop) == (("a", "b", "c"), (40, 48), 0.5)
    images = torch.randint(256, (2, 3, 40, 48), dtype=torch.uint8)
    (first, _) = predictor.predict(images.numpy(), np.array([[40, 48]] * 2))
    with torch.no_grad():
        expected = network(images)[0].softmax(0)
    np.testing.assert_allclose(first.scores, expected[first.labels].numpy(), rtol=1e-5)


def test_an_option_of_another_type(tmp_path: Path) -> None:
    options = {"network": CLASSIFIER, "eval_crop": "most"}
    path = save(tmp_path / "a.ckpt", hyper_parameters=options, state_dict={"logits.bias": torch.zeros(3)})
    with pytest.raises(InputError, match=r"a\.ckpt: its network cannot be built: .*eval_crop"):
        load_checkpoint(path)


class Unserved(Network):
    """A network of a kind that no predictor knows."""

    def __init__(self) -> None:
        super().__init__()


def test_a_kind_of_network_that_nothing_serves(tmp_path: Path) -> None:
    network = {"class_path": f"{__name__}.Unserved"}
    path = save(tmp_path / "a.ckpt", hyper_parameters={"network": network}, state_dict={"a": torch.zeros(1)})
    with pytest.raises(InputError, match=r"a\.ckpt: its network cannot be built: nothing serves a Unserved"):
        load_checkpoint(path)


HEADS: dict[str, Any] = {
    "detector": {"class_path": "mbdet.models.SSDLite", "init_args": {"num_classes": 3, "input_size": [64, 64]}},
    "segmenter": {"class_path": "mbdet.models.LRASPP", "init_args": {"num_classes": 2, "input_size": [64, 64]}},
}


def two_heads(**changes: object) -> dict[str, Any]:
    return {
        "class_path": "mbdet.models.MultiTask",
        "init_args": {"backbone": NETWORK["init_args"]["backbone"], **HEADS, **changes},
    }


def test_a_multitask_network_is_built_with_both_lists_of_names(tmp_path: Path) -> None:
    size = (64, 64)
    network = MultiTask(
        MobileNetV2(0.35),
        partial(SSDLite, num_classes=3, input_size=size),
        partial(LRASPP, num_classes=2, input_size=size),
    )
    path = save(
        tmp_path / "a.ckpt",
        hyper_parameters={"network": two_heads(), "postprocess": {"score_threshold": 0.25}, "segment_names": None},
        state_dict=network.state_dict(),
        class_names=["a", "b", "c"],
        segment_names=["ground", "a"],
    )
    predictor = load_checkpoint(path, "cpu")
    assert isinstance(predictor, TorchMultiTask)
    assert (predictor.class_names, predictor.segment_names) == (("a", "b", "c"), ("ground", "a"))
    assert predictor.postprocess.score_threshold == 0.25
    torch.testing.assert_close(predictor.network.state_dict(), network.state_dict())


@pytest.mark.usefixtures("evil")
@pytest.mark.parametrize(
    ("detector", "message"),
    [
        ({"class_path": "evilmod.B"}, r"needs evilmod\.B; import evilmod first if you trust it"),
        ("evilmod.B", "network.detector is text where its type has none"),
        ("os.system", "network.detector is text where its type has none"),
        ({"class_path": "mbdet.models.Detector"}, "its network cannot be built: .* abstract"),
        (
            {"class_path": "mbdet.models.SSDLite", "init_args": {"anchors": "evil.yaml"}},
            "anchors is text where its type",
        ),
        ({"class_path": "subprocess.Popen", "init_args": {"args": 3}}, "its network cannot be built"),
        ({"class_path": "torch.nn.Linear", "init_args": {"out_features": 3}}, "its network cannot be built"),
        (HEADS["segmenter"], "its network cannot be built"),
    ],
)
def test_a_head_is_a_class_that_is_trusted_and_a_head(tmp_path: Path, detector: object, message: str) -> None:
    import subprocess  # noqa: F401 -- imported, so that the name alone would be trusted

    network = two_heads(detector=detector)
    path = save(tmp_path / "a.ckpt", hyper_parameters={"network": network}, state_dict={"a": torch.zeros(1)})
    with pytest.raises(InputError, match=message):
        load_checkpoint(path)
