"""Parameters and multiply-adds of every published width and resolution, exactly.

What is expected is counted here by plain arithmetic over the papers' tables, without any network; and it comes to the
figures that are printed.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pytest
import torch

from mbdet.backbones import MobileNetV1, MobileNetV2, MobileNetV3
from mbdet.cost import count_madds, count_parameters
from mbdet.models import SSD, Classifier, Network, SSDLite, zoo


class Map(NamedTuple):
    channels: int
    size: int


class Counter:
    """Adds up convolutions on a square map: without a bias they have a batch norm, which is two numbers a channel."""

    def __init__(self, size: int) -> None:
        self.size, self.weights, self.norms, self.madds = size, 0, 0, 0

    def conv(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, bias: bool = False) -> int:
        self.size = -(-self.size // stride)
        weights = kernel * kernel * inputs * outputs
        self.weights += weights + outputs * bias
        self.norms += 2 * outputs * (not bias)
        self.madds += weights * self.size**2
        return outputs

    def depthwise(self, channels: int, kernel: int = 3, stride: int = 1) -> None:
        self.conv(1, channels, kernel, stride)

    def linear(self, inputs: int, outputs: int) -> None:
        self.weights += (inputs + 1) * outputs
        self.madds += inputs * outputs


def by_8(width: float) -> int:
    nearest = max(8, 8 * int((width + 4) / 8))
    return nearest if nearest >= 0.9 * width else nearest + 8


# Each of the backbones returns the two maps that detectors read.
V1_ROWS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
# Expansion, output, repeats, stride.
V2_ROWS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
# Kernel, expansion, output, squeeze, stride.
V3_ROWS = {
    "large": """3 16 16 0 1; 3 64 24 0 2; 3 72 24 0 1; 5 72 40 1 2; 5 120 40 1 1; 5 120 40 1 1; 3 240 80 0 2;
        3 200 80 0 1; 3 184 80 0 1; 3 184 80 0 1; 3 480 112 1 1; 3 672 112 1 1; 5 672 160 1 2; 5 960 160 1 1;
        5 960 160 1 1""",
    "small": """3 16 16 1 2; 3 72 24 0 2; 3 88 24 0 1; 5 96 40 1 2; 5 240 40 1 1; 5 240 40 1 1; 5 120 48 1 1;
        5 144 48 1 1; 5 288 96 1 2; 5 576 96 1 1; 5 576 96 1 1""",
}
LAST = {"large": 960, "small": 576}
HIDDEN = {"large": 1280, "small": 1024}


def v1(count: Counter, alpha: float = 1.0) -> tuple[Map, Map]:
    channels, maps = count.conv(3, int(32 * alpha), 3, 2), []
    for width, stride in V1_ROWS:
        count.depthwise(channels, 3, stride)
        channels = count.conv(channels, int(width * alpha))
        maps.append(Map(channels, count.size))
    return maps[10], maps[12]


def v2(count: Counter, alpha: float = 1.0, last: int = 1280) -> tuple[Map, Map]:
    channels, tap = count.conv(3, by_8(32 * alpha), 3, 2), Map(0, 0)
    for expansion, width, repeats, first_stride in V2_ROWS:
        for repeat in range(repeats):
            stride, inner = (1 if repeat else first_stride), channels * expansion
            if expansion > 1:
                count.conv(channels, inner)
            if stride == 2:  # the last such block has the tap inside
                tap = Map(inner, count.size)
            count.depthwise(inner, 3, stride)
            channels = count.conv(inner, by_8(width * alpha))
    return tap, Map(count.conv(channels, last), count.size)


def v3(
    count: Counter, variant: str, alpha: float = 1.0, minimalistic: bool = False, reduced: bool = False
) -> tuple[Map, Map]:
    channels, tap = count.conv(3, by_8(16 * alpha), 3, 2), Map(0, 0)
    rows = [[int(number) for number in row.split()] for row in V3_ROWS[variant].split(";")]
    unscaled = 16
    for index, (kernel, expanded, width, squeeze, stride) in enumerate(rows):
        inner = by_8(channels * expanded / unscaled)
        unscaled = width
        if reduced and index >= len(rows) - 3:
            width //= 2
        if inner != channels:
            count.conv(channels, inner)
        if stride == 2:
            tap = Map(inner, count.size)
        count.depthwise(inner, 3 if minimalistic else kernel, stride)
        if squeeze and not minimalistic:
            gate = by_8(inner / 4)
            count.linear(inner, gate)
            count.linear(gate, inner)
        channels = count.conv(inner, by_8(width * alpha))
    return tap, Map(count.conv(channels, by_8(LAST[variant] // (1 + reduced) * alpha)), count.size)


def heads(
    count: Counter,
    maps: tuple[Map, Map],
    slots: int,
    kernel: int = 3,
    separable: bool = True,
    whole_extras: bool = False,
    extras: tuple[int, ...] = (512, 256, 256, 128),
    first_anchors: int = 3,
) -> None:
    tapped = list(maps)
    for width in extras:
        count.size = tapped[-1].size
        half = count.conv(tapped[-1].channels, width // 2)
        if whole_extras:
            count.conv(half, width, 3, 2)
        else:
            count.depthwise(half, 3, 2)
            count.conv(half, width)
        tapped.append(Map(width, count.size))
    for index, (channels, size) in enumerate(tapped):
        count.size = size
        for outputs in (4, slots):
            if separable:
                count.depthwise(channels)
            count.conv(channels, outputs * (6 if index else first_anchors), 1 if separable else kernel, bias=True)


def check(build: Callable[[], Network], size: int, count: Counter) -> None:
    with torch.device("meta"):
        network = build().eval()
        madds = count_madds(network, torch.zeros(1, 3, size, size))
    assert count_parameters(network, batch_norm=False) == count.weights
    assert count_parameters(network) == count.weights + count.norms
    assert madds == count.madds


# In millions, at 224, 192, 160 and 128. slim's mobilenet_v1.md prints the same in whole ones, but for 0.75 and for 0.25
# at 192, which it has from elsewhere: the paper's 325 at 0.75 is this one.
V1_MILLIONS = {
    1.0: (568.74, 418.12, 290.68, 186.40),
    0.75: (325.40, 239.27, 166.40, 106.77),
    0.5: (149.50, 109.97, 76.52, 49.16),
    0.25: (41.03, 30.21, 21.06, 13.57),
}
V1_PARAMETERS = {1.0: 4_231_976, 0.75: 2_585_560, 0.5: 1_331_592, 0.25: 470_072}


@pytest.mark.parametrize(
    ("alpha", "size", "millions"),
    [(a, s, m) for a, row in V1_MILLIONS.items() for s, m in zip((224, 192, 160, 128), row, strict=True)],
)
def test_v1(alpha: float, size: int, millions: float) -> None:
    count = Counter(size)
    _, last = v1(count, alpha)
    count.linear(last.channels, 1000)
    assert round(count.madds / 1e6, 2) == millions
    assert count.weights + count.norms == V1_PARAMETERS[alpha]
    check(lambda: Classifier(MobileNetV1(alpha), 1000), size, count)


def test_v1_with_the_background() -> None:
    count = Counter(224)
    v1(count)
    count.linear(1024, 1001)
    assert count.weights + count.norms == 4_233_001
    check(lambda: Classifier(MobileNetV1(), 1001), 224, count)


# Of slim's README in whole millions, at 224, 192, 160, 128 and 96; with all digits at 224; and parameters.
V2_MILLIONS = {
    1.4: ((582,), 582.20, 6_108_776),
    1.3: ((509,), 509.37, 5_386_792),
    1.0: ((300, 221, 154, 99, 56), 300.77, 3_504_872),
    0.75: ((209, 153, 107, 69, 39), 209.07, 2_636_424),
    0.5: ((97, 71, 50, 32, 18), 97.13, 1_968_680),
    0.35: ((59, 43, 30, 20, 11), 59.29, 1_677_128),
}


@pytest.mark.parametrize(
    ("alpha", "size", "printed"),
    [(a, s, p) for a, (row, _, _) in V2_MILLIONS.items() for s, p in zip((224, 192, 160, 128, 96), row, strict=False)],
)
def test_v2(alpha: float, size: int, printed: int) -> None:
    count = Counter(size)
    _, last = v2(count, alpha, by_8(1280 * max(1, alpha)))
    count.linear(last.channels, 1000)
    assert count.madds / 1e6 == pytest.approx(printed, abs=1)  # sometimes rounded, sometimes cut
    _, millions, parameters = V2_MILLIONS[alpha]
    assert size != 224 or round(count.madds / 1e6, 2) == millions
    assert count.weights + count.norms == parameters
    check(lambda: Classifier(MobileNetV2(alpha), 1000), size, count)


V3_MILLIONS = {
    ("large", 1.25, False): (355.22, 7_551_976),
    ("large", 1.0, False): (216.59, 5_483_032),
    ("large", 0.75, False): (154.56, 3_993_528),
    ("large", 0.5, False): (69.25, 2_689_520),
    ("large", 0.35, False): (39.47, 2_131_832),
    ("large", 1.0, True): (209.14, 3_924_288),
    ("small", 1.25, False): (90.80, 3_205_384),
    ("small", 1.0, False): (56.51, 2_542_856),
    ("small", 0.75, False): (43.40, 2_041_872),
    ("small", 0.5, False): (21.05, 1_592_704),
    ("small", 0.35, False): (12.82, 1_358_288),
    ("small", 1.0, True): (52.29, 2_044_736),
}


@pytest.mark.parametrize(
    ("variant", "alpha", "minimalistic", "size"),
    [
        *((*network, 224) for network in V3_MILLIONS),
        *((variant, 1.0, False, size) for variant in LAST for size in (256, 192, 160, 128, 96)),
    ],
)
def test_v3(variant: str, alpha: float, minimalistic: bool, size: int) -> None:
    count, hidden = Counter(size), HIDDEN[variant]
    _, last = v3(count, variant, alpha, minimalistic)
    count.linear(last.channels, hidden)
    count.linear(hidden, 1000)
    millions, parameters = V3_MILLIONS[variant, alpha, minimalistic]
    assert size != 224 or round(count.madds / 1e6, 2) == millions
    assert count.weights + count.norms == parameters
    backbone = partial(MobileNetV3, variant, minimalistic, alpha)
    check(lambda: Classifier(backbone(), 1000, hidden_channels=hidden), size, count)


def narrow(alpha: float) -> tuple[int, ...]:
    """Return the widths of the added maps; none is below 16 at any published width."""
    return tuple(int(width * alpha) for width in (512, 256, 256, 128))


WHOLE = {"kernel": 1, "separable": False, "whole_extras": True}
# At 320 pixels, and SSD at 300. Multiply-adds, parameters without batch norms and with them, the billions of the
# derived tables; None where nobody prints any.
DETECTORS = {
    "v1": (zoo.ssdlite_mobilenet_v1, 81, v1, {}, 1_309_162_944, 5_063_413, None, 1.309),
    "v2": (zoo.ssdlite_mobilenet_v2, 81, v2, {}, 788_830_144, 4_286_261, None, 0.789),
    "v2, 90 classes": (zoo.ssdlite_mobilenet_v2, 91, v2, {}, 804_397_504, 4_449_791, 4_500_543, 0.804),
    "v2 0.5": (
        partial(zoo.ssdlite_mobilenet_v2, width_mult=0.5),
        91,
        partial(v2, alpha=0.5, last=640),
        {"extras": narrow(0.5)},
        272_348_896,
        1_536_527,
        None,
        0.272,
    ),
    "v2 0.35": (
        partial(zoo.ssdlite_mobilenet_v2, width_mult=0.35),
        91,
        partial(v2, alpha=0.35, last=448),
        {"extras": narrow(0.35)},
        166_713_786,
        929_531,
        None,
        0.167,
    ),
    "v3 large": (
        partial(zoo.ssdlite_mobilenet_v3_large, reduced_tail=False),
        91,
        partial(v3, variant="large"),
        {},
        613_143_104,
        4_966_591,
        5_006_735,
        0.613,
    ),
    "v3 large reduced": (
        zoo.ssdlite_mobilenet_v3_large,
        91,
        partial(v3, variant="large", reduced=True),
        {},
        506_563_904,
        3_215_311,
        3_248_255,
        0.507,
    ),
    "v3 small": (
        partial(zoo.ssdlite_mobilenet_v3_small, reduced_tail=False),
        91,
        partial(v3, variant="small"),
        {},
        210_417_856,
        2_493_487,
        2_518_271,
        0.210,
    ),
    "v3 small reduced": (
        zoo.ssdlite_mobilenet_v3_small,
        91,
        partial(v3, variant="small", reduced=True),
        {},
        162_303_424,
        1_765_279,
        1_785_743,
        0.162,
    ),
    "torchvision": (
        zoo.torchvision_ssdlite_mobilenet_v3_large,
        91,
        partial(v3, variant="large", reduced=True),
        {"first_anchors": 6},
        583_171_904,
        None,
        3_440_060,
        0.583,
    ),
    "v1 ssd": (lambda classes: SSD(MobileNetV1(), classes), 91, v1, WHOLE, 1_237_129_408, None, 6_819_839, 1.237),
}


@pytest.mark.parametrize("name", DETECTORS)
def test_detectors(name: str) -> None:
    build, slots, backbone, options, madds, parameters, with_batch_norm, billions = DETECTORS[name]
    count = Counter(300 if name == "v1 ssd" else 320)
    size = count.size
    heads(count, backbone(count), slots, **options)
    assert count.madds == madds
    assert round(madds / 1e9, 3) == billions
    assert parameters in (count.weights, None)
    assert with_batch_norm in (count.weights + count.norms, None)
    assert (parameters, with_batch_norm) != (None, None)
    check(lambda: build(slots - 1), size, count)


@pytest.mark.parametrize(
    ("build", "options", "parameters", "billions"),
    [
        (partial(SSD, predictor="conv3", extra="conv"), {"separable": False, "whole_extras": True}, 14.77, 1.26),
        (SSDLite, {}, 2.10, 0.178),
    ],
)
def test_heads_and_extra_layers(
    build: Callable[..., Network], options: dict[str, bool], parameters: float, billions: float
) -> None:
    """MobileNetV2 paper, table 5; for the separable ones it prints twice the multiply-adds."""
    inner, count = Counter(320), Counter(320)
    maps = v2(inner)
    heads(count, maps, 81, **options)
    assert round(count.weights / 1e6, 2) == parameters
    assert round(count.madds / 1e9, len(str(billions)) - 2) == billions
    for field in ("weights", "norms", "madds"):
        setattr(count, field, getattr(count, field) + getattr(inner, field))
    check(lambda: build(MobileNetV2(), 80, (320, 320)), 320, count)
