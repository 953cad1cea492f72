from collections.abc import Callable

import pytest
import torch
from torch import nn

from mbdet.backbones import MobileNetV1, MobileNetV2, MobileNetV3
from mbdet.models import Classifier
from mbdet.testing import check_classifier


def test_logits_are_linear_in_the_mean_of_the_map() -> None:
    torch.manual_seed(0)
    network = Classifier(MobileNetV2(0.35), 7).eval()
    images = torch.randint(256, (2, 3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        features = network.backbone(images)["c5"]
        expected = nn.functional.adaptive_avg_pool2d(features, 1).flatten(1) @ network.logits.weight.T
        torch.testing.assert_close(network(images), expected)


def test_names_and_initialisation() -> None:
    torch.manual_seed(0)
    network = Classifier(MobileNetV2(0.35), 50, hidden_channels=1024)
    heads = {name: value for name, value in network.state_dict().items() if not name.startswith("backbone.")}
    assert list(heads) == ["hidden.weight", "hidden.bias", "logits.weight", "logits.bias"]
    assert heads["logits.weight"].shape == (50, 1024)
    for layer in ("hidden", "logits"):
        assert heads[f"{layer}.weight"].std() == pytest.approx(0.01, rel=0.05)
        assert not heads[f"{layer}.bias"].any()
    without = Classifier(MobileNetV2(0.35), 5).state_dict()
    assert [name for name in without if not name.startswith("backbone.")] == ["logits.weight", "logits.bias"]


@pytest.mark.parametrize(("hidden_act", "expected"), [("hard_swish", -1 / 3), ("relu", 0.0)])
def test_activation_of_the_hidden_layer(hidden_act: str, expected: float) -> None:
    network = Classifier(MobileNetV2(0.35), 1, hidden_channels=1, hidden_act=hidden_act).eval()
    with torch.no_grad():
        network.hidden.weight.zero_()
        network.hidden.bias.fill_(-1.0)  # h-swish(-1) is -1 * 2 / 6
        network.logits.weight.fill_(1.0)
        logits = network(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    assert logits.item() == pytest.approx(expected)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Classifier(MobileNetV1(0.25), 3),
        lambda: Classifier(MobileNetV2(0.35), 3),
        lambda: Classifier(MobileNetV3("small", width_mult=0.35), 3, hidden_channels=16),
        lambda: Classifier(MobileNetV3("small", True, 0.35, padding="same"), 3, hidden_channels=16, hidden_act="relu"),
    ],
)
def test_keeps_the_contract(build: Callable[[], Classifier]) -> None:
    check_classifier(build)


def test_dropout_in_training_only() -> None:
    torch.manual_seed(0)
    network = Classifier(MobileNetV2(0.35), 3, dropout=0.9)
    images = torch.randint(256, (4, 3, 64, 64), dtype=torch.uint8)
    assert not torch.equal(network(images), network(images))
    network.eval()
    torch.testing.assert_close(network(images), network(images), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tap": "c6"}, "tap 'c6' is not a map of the backbone"),
        ({"hidden_act": "swish"}, "hidden_act is 'swish'; it must be one of"),
        ({"num_classes": 0}, "num_classes 0"),
        ({"input_size": (0, 224)}, "input_size"),
        ({"hidden_channels": 0}, "hidden_channels 0"),
    ],
)
def test_options_out_of_range(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Classifier(MobileNetV2(0.35), **{"num_classes": 3, **options})


def test_width_of_the_head_follows_the_tap() -> None:
    network = Classifier(MobileNetV2(0.35), 3, tap="c4").eval()
    assert network.logits.in_features == network.backbone.specs["c4"].channels
    assert network(torch.zeros(1, 3, 64, 64, dtype=torch.uint8)).shape == (1, 3)
