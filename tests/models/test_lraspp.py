"""LR-ASPP against the published counts, and its gate by hand."""

from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor
from torch.nn import functional as F

from mbdet.backbones import MobileNetV3
from mbdet.cost import count_madds, count_parameters
from mbdet.models import LRASPP

CONFIGS = Path(__file__).parents[2] / "configs"


# V3 paper, table 7, rows 7, 8 and 11, and table 8, where half the resolution is too. They print the same parameters,
# rounded, and 2 to 6 % more multiply-adds than the layers have.
@pytest.mark.parametrize(
    ("variant", "output_stride", "channels", "size", "parameters", "billions", "printed"),
    [
        ("large", 16, 256, (1025, 2049), 1_632_894, 10.13, 10.33),
        ("large", 16, 128, (1025, 2049), 1_507_198, 9.53, 9.74),
        ("large", 16, 128, (513, 1025), 1_507_198, 2.43, 2.48),
        ("large", 32, 128, (1025, 2049), 1_507_198, 7.58, 7.74),
        ("large", 32, 128, (513, 1025), 1_507_198, 1.93, 1.98),
        ("small", 16, 128, (1025, 2049), 468_830, 2.78, 2.90),
        ("small", 16, 128, (513, 1025), 468_830, 0.71, 0.74),
        ("small", 32, 128, (1025, 2049), 468_830, 1.96, 2.06),
        ("small", 32, 128, (513, 1025), 468_830, 0.50, 0.53),
    ],
)
def test_costs_of_the_published_models(
    variant: str,
    output_stride: int,
    channels: int,
    size: tuple[int, int],
    parameters: int,
    billions: float,
    printed: float,
) -> None:
    with torch.device("meta"):
        backbone = MobileNetV3(variant, reduced_tail="segmentation", output_stride=output_stride)
        network = LRASPP(backbone, 19, channels=channels)
        madds = count_madds(network, torch.zeros(1, 3, *size)) / 1e9
    assert count_parameters(network) == parameters
    assert round(madds, 2) == billions
    assert 1.01 < printed / madds < 1.07


@pytest.mark.parametrize(
    ("output_stride", "pool_size", "pool_stride", "grid"),
    [
        (16, (49, 49), (16, 20), (2, 5)),
        (32, (25, 25), (4, 5), (3, 9)),
        (32, (49, 49), (16, 20), (1, 1)),  # the map has 33 x 65 cells
        (16, None, (16, 20), (1, 1)),
    ],
)
def test_windows_of_the_published_models(
    output_stride: int, pool_size: tuple[int, int] | None, pool_stride: tuple[int, int], grid: tuple[int, int]
) -> None:
    with torch.device("meta"):
        backbone = MobileNetV3("small", width_mult=0.35, output_stride=output_stride)
        network = LRASPP(backbone, 5, pool_size=pool_size, pool_stride=pool_stride).eval()
        seen = []
        network.gate.register_forward_hook(lambda _layer, inputs, _output: seen.append(tuple(inputs[0].shape[2:])))
        network(torch.zeros(1, 3, 1025, 2049))
    assert seen == [grid]


def windows(x: Tensor, size: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    """Average over whole windows, one after the other."""
    height, width = x.shape[2:]
    rows = [
        torch.stack(
            [
                x[:, :, top : top + size[0], left : left + size[1]].mean((2, 3))
                for left in range(0, width - size[1] + 1, stride[1])
            ],
            dim=-1,
        )
        for top in range(0, height - size[0] + 1, stride[0])
    ]
    return torch.stack(rows, dim=-2)


@pytest.mark.parametrize(
    ("pool_size", "window"), [((2, 3), (2, 3)), ((7, 3), (5, 3)), ((2, 50), (2, 7)), ((49, 49), (5, 7)), (None, (5, 7))]
)
@pytest.mark.parametrize("gate", ["sigmoid", "hard_sigmoid"])
@torch.no_grad()
def test_logits_by_hand(pool_size: tuple[int, int] | None, window: tuple[int, int], gate: str) -> None:
    """The map has 5 x 7 cells; a larger window shrinks to it."""
    torch.manual_seed(0)
    backbone = MobileNetV3("small", width_mult=0.35, output_stride=16, bn_momentum=1.0)
    network = LRASPP(backbone, 4, channels=8, pool_size=pool_size, pool_stride=(1, 2), gate=gate, bn_momentum=1.0)
    images = torch.randint(256, (2, 3, 80, 112), dtype=torch.uint8)
    torch.nn.init.normal_(network.gate.bias)
    network.train()(images)
    network.eval()

    def grow(x: Tensor, size: tuple[int, int]) -> Tensor:
        return F.interpolate(x, size, mode="bilinear", align_corners=True)

    features = network.backbone(images)
    low, high = features["c3_depthwise"], features["c5"]
    assert high.shape[2:] == (5, 7)
    raw = F.conv2d(windows(high, window, (1, 2)), network.gate.weight, network.gate.bias)
    opened = torch.sigmoid(raw) if gate == "sigmoid" else (raw + 3).clamp(0, 6) / 6
    x = network.conv(high) * grow(opened, (5, 7))
    logits = F.conv2d(grow(x, (10, 14)), network.high_classifier.weight, network.high_classifier.bias)
    logits = logits + F.conv2d(low, network.low_classifier.weight, network.low_classifier.bias)
    torch.testing.assert_close(network(images).logits, grow(logits, (80, 112)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("lraspp_*.yaml")), ids=lambda path: path.stem)
def test_the_gate_of_every_config_sees_the_whole_image(config: Path) -> None:
    options = yaml.safe_load(config.read_text())["model"]["init_args"]["network"]["init_args"]
    stride = options["backbone"]["init_args"].get("output_stride", 32)
    windows, steps = options.get("pool_size", (49, 49)), options.get("pool_stride", (16, 20))
    for side, window, step in zip(options["input_size"], windows or (), steps, strict=False):
        cells = -(-side // stride)
        assert cells <= window or (cells - window) % step == 0
