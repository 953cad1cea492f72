"""Our backbones in timm's registry, called as timm's scripts and the libraries on top of it call them."""

import sys
import warnings

import pytest
import timm
import torch
from timm.data import create_transform, resolve_data_config
from torch import nn

from mbdet.backbones import MobileNetV2, TimmBackbone
from mbdet.cost import count_parameters
from mbdet.errors import InputError
from mbdet.interop import register_with_timm
from mbdet.interop.timm_models import MODELS


@pytest.fixture(scope="module", autouse=True)
def registered() -> None:
    assert not timm.list_models("mbdet_*"), "importing mbdet.interop must not register anything"
    register_with_timm()


def test_registering_can_be_repeated() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # timm warns of a name that is taken
        register_with_timm()
    assert timm.list_models("mbdet_*") == sorted(MODELS)


@pytest.mark.parametrize(
    ("name", "parameters", "features"),
    [
        ("mbdet_mobilenetv1", 4_231_976, 1024),
        ("mbdet_mobilenetv2", 3_504_872, 1280),
        ("mbdet_mobilenetv3_large", 5_483_032, 960),
        ("mbdet_mobilenetv3_small", 2_542_856, 576),
    ],
)
def test_classifiers_are_those_of_the_papers(name: str, parameters: int, features: int) -> None:
    with torch.device("meta"):
        model = timm.create_model(name).eval()
        images = torch.zeros(2, 3, 224, 224)
        assert count_parameters(model) == parameters
        assert model(images).shape == (2, 1000)
        assert model.forward_features(images).shape == (2, features, 7, 7)
    assert model.num_features == features
    assert model.num_classes == 1000


def test_the_head_can_be_replaced_and_left_out() -> None:
    images = torch.rand(2, 3, 64, 64) * 255
    model = timm.create_model("mbdet_mobilenetv3_small", num_classes=5, width_mult=0.35, drop_rate=0.0).eval()
    assert isinstance(model.get_classifier(), nn.Linear)
    pooled = model.forward_head(model.forward_features(images), pre_logits=True)
    assert pooled.shape == (2, model.head_hidden_size) == (2, 1024)
    torch.testing.assert_close(model(images), model.get_classifier()(pooled))
    model.reset_classifier(7)
    assert model(images).shape == (2, 7)
    model.reset_classifier(0)
    torch.testing.assert_close(model(images), pooled)
    assert timm.create_model("mbdet_mobilenetv1", num_classes=0, width_mult=0.25)(images).shape == (2, 256)


def test_timm_s_transform_gives_what_the_network_takes() -> None:
    """Whatever it does to the size: the values are 0 to 255."""
    from PIL import Image

    with torch.device("meta"):
        config = resolve_data_config({}, model=timm.create_model("mbdet_mobilenetv2"))
    tensor = create_transform(**config, is_training=False)(Image.new("RGB", (300, 260), (0, 100, 255)))
    assert tensor.shape == (3, 224, 224)
    torch.testing.assert_close(tensor[:, 0, 0], torch.tensor([0.0, 100.0, 255.0]))


@pytest.mark.parametrize(
    ("out_indices", "names"), [((0, 1, 2), ["c3", "c4", "c5"]), ((1, 2), ["c4", "c5"]), ((-1,), ["c5"])]
)
def test_features(out_indices: tuple[int, ...], names: list[str]) -> None:
    model = timm.create_model(
        "mbdet_mobilenetv2", features_only=True, out_indices=out_indices, width_mult=0.35, output_stride=16
    ).eval()
    images = torch.rand(1, 3, 65, 96) * 255
    expected = model.backbone(images)
    specs = [model.backbone.specs[name] for name in names]
    assert model.feature_info.channels() == [spec.channels for spec in specs]
    assert model.feature_info.reduction() == [spec.stride for spec in specs]
    torch.testing.assert_close(model(images), [expected[name] for name in names], rtol=0, atol=0)


def test_there_and_back_again() -> None:
    """A network of ours by way of timm is a backbone of ours once more, normalised once."""
    backbone = TimmBackbone("mbdet_mobilenetv2").eval()
    ours = MobileNetV2().eval()
    ours.load_state_dict(backbone.body.backbone.state_dict())
    images = torch.randint(256, (1, 3, 64, 96), dtype=torch.uint8)
    expected = ours(images)
    found = backbone(images)
    assert backbone.specs == {name: ours.specs[name] for name in ("c3", "c4", "c5")}
    torch.testing.assert_close(found, {name: expected[name] for name in found}, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pretrained": True}, "timm has no weights of mbdet's models"),
        ({"in_chans": 1}, "in_chans is 1"),
        ({"features_only": True, "out_indices": (0, 3)}, r"out_indices are \(0, 3\); mbdet's backbones give 3 maps"),
    ],
)
def test_what_is_not_there_is_refused(options: dict[str, object], message: str) -> None:
    with torch.device("meta"), pytest.raises(InputError, match=message):
        timm.create_model("mbdet_mobilenetv2", **options)


def test_an_unknown_argument_is_refused() -> None:
    with pytest.raises(TypeError, match="width_mul"):
        timm.create_model("mbdet_mobilenetv2", width_mul=0.5)


def test_without_timm_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"pip install 'mbdet\[timm\]'"):
        register_with_timm()
