"""SSDFPN against counts made by hand, and the agreement of its outputs with its anchors."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from mbdet.backbones import MobileNetV1, MobileNetV2
from mbdet.cost import count_madds, count_parameters
from mbdet.models import SSDFPN
from mbdet.types import DetectorOutput

Size = tuple[int, int]
small = partial(SSDFPN, num_classes=3, neck_channels=16, tower_channels=24, tower_layers=2)
LITE: dict[str, Any] = {}
WHOLE: dict[str, Any] = {"neck_channels": 256, "tower_channels": 256, "separable": False, "share_tower": False}


def kernel(channels_in: int, channels_out: int, separable: bool) -> int:
    """Count the weights of a 3x3 convolution, which are also its multiply-adds per output cell."""
    return 9 * channels_in + channels_in * channels_out if separable else 9 * channels_in * channels_out


@pytest.mark.parametrize(
    ("side", "number"), [(256, 8184), (320, 12804), (640, 51150)], ids=["256 pixels", "320 pixels", "640 pixels"]
)
@pytest.mark.parametrize(
    ("backbone", "widths", "options"),
    [
        (partial(MobileNetV2, last_channels=256), (32, 96, 256), LITE),
        (MobileNetV2, (32, 96, 1280), LITE),
        (MobileNetV1, (256, 512, 1024), WHOLE),
    ],
    ids=["FPNLite of TF1", "FPNLite of TF2", "FPN on V1"],
)
def test_costs_and_anchors_of_the_published_models(
    backbone: Any, widths: tuple[int, ...], options: dict[str, Any], side: int, number: int
) -> None:
    depth, separable, towers = (256, False, 2) if options else (128, True, 1)
    slots, anchors = 91, 6
    cells = [(-(-side // stride)) ** 2 for stride in (8, 16, 32, 64, 128)]
    inner, boxes, classes = (kernel(depth, out, separable) for out in (depth, anchors * 4, anchors * slots))

    weights = sum(width * depth + depth for width in widths)  # laterals with their biases
    weights += (2 + 2 + 4 * towers) * inner  # smoothing, P6 and P7, towers
    weights += boxes + classes + anchors * (4 + slots)
    norms = 2 * depth * (2 + 2 + 4 * towers * 5)
    madds = sum(width * depth * area for width, area in zip(widths, cells, strict=False))
    # The depthwise part of P6 and P7 counts per output cell, as everything does.
    madds += inner * (cells[0] + cells[1] + cells[3] + cells[4])
    madds += (4 * towers * inner + boxes + classes) * sum(cells)

    with torch.device("meta"):
        network = backbone().eval()
        detector = SSDFPN(network, slots - 1, (side, side), **options).eval()
        images = torch.zeros(1, 3, side, side)
        inside = count_parameters(network, batch_norm=False)
        assert count_parameters(detector, batch_norm=False) - inside == weights
        assert count_parameters(detector) - count_parameters(network) == weights + norms
        assert count_madds(detector, images) - count_madds(network, images) == madds
        assert detector.anchors.shape == (number, 4)


@torch.no_grad()
def make_transparent(detector: SSDFPN) -> None:
    """Make each predictor say, at every anchor, ten times the cell's first channel plus its own output's number."""
    for head in (detector.box_head, detector.class_head):
        nn.init.zeros_(head.conv.depthwise.weight)
        head.conv.depthwise.weight[:, 0, 1, 1] = 1
        nn.init.zeros_(head.last.weight)
        head.last.weight[:, 0] = 10
        head.last.bias.copy_(torch.arange(len(head.last.bias)))


@pytest.mark.parametrize(
    ("level", "grid", "cell", "center"),
    [
        (0, (16, 20), (5, 2), (20.0, 44.0)),
        (1, (8, 10), (0, 9), (152.0, 8.0)),
        (2, (4, 5), (3, 0), (16.0, 112.0)),
        (3, (2, 3), (1, 2), (128.0, 96.0)),  # 160 is no multiple of 64: the centres lie on the cells' left edges
        (4, (1, 2), (0, 1), (128.0, 64.0)),
    ],
)
def test_predictions_are_in_the_order_of_the_anchors(
    level: int, grid: Size, cell: Size, center: tuple[float, float]
) -> None:
    """One hot cell in one level: the rows that see it are those of the anchors around its centre."""
    detector = small(MobileNetV2(0.35), input_size=(128, 160)).eval()
    make_transparent(detector)

    def predict(value: float) -> DetectorOutput:
        def substitute(_layer: nn.Module, inputs: tuple[list[Tensor]]) -> tuple[list[Tensor]]:
            maps = [torch.zeros_like(x) for x in inputs[0]]
            assert maps[level].shape[-2:] == grid
            maps[level][:, 0, cell[0], cell[1]] = value
            return (maps,)

        handles = [head.register_forward_pre_hook(substitute) for head in (detector.box_head, detector.class_head)]
        output: DetectorOutput = detector(torch.zeros(1, 3, 128, 160))
        for handle in handles:
            handle.remove()
        return output

    for cold, hot in zip(predict(0.0), predict(1.0), strict=True):
        (rows,) = (hot - cold)[0].amax(dim=1).nonzero(as_tuple=True)
        boxes = box_convert(detector.anchors[rows], "xyxy", "cxcywh")
        torch.testing.assert_close(boxes[:, :2], torch.tensor(center).expand(6, 2))
        side = 4.0 * 2 ** (level + 3)
        areas = torch.tensor([side**2, 2 * side**2]).repeat(3)
        torch.testing.assert_close(boxes[:, 2] * boxes[:, 3], areas)
        # The channels of a cell are anchor by anchor, as in TF's weights.
        expected = 10 + torch.arange(hot.shape[2] * 6, dtype=torch.float32).view(6, -1)
        torch.testing.assert_close(hot[0, rows], expected)


@pytest.mark.parametrize("share_tower", [True, False])
def test_towers_are_shared_over_the_levels_but_for_their_batch_norms(share_tower: bool) -> None:
    detector = small(MobileNetV2(0.35), share_tower=share_tower)
    layers = [f"towers.{tower}.{layer}" for tower in range(1 if share_tower else 2) for layer in range(2)]
    expected = {f"{layer}.conv.{part}.weight" for layer in layers for part in ("depthwise", "pointwise")}
    expected |= {f"{layer}.bns.{level}.weight" for layer in layers for level in range(5)}
    expected |= {f"{layer}.bns.{level}.bias" for layer in layers for level in range(5)}
    assert {name for name, _ in detector.named_parameters() if name.startswith("towers.")} == expected


def test_each_level_has_statistics_of_its_own() -> None:
    detector = small(MobileNetV2(0.35), input_size=(128, 128)).train()
    images = torch.randint(256, (2, 3, 128, 128), dtype=torch.uint8)
    detector(images)
    means = [bn.running_mean for bn in detector.towers[0][0].bns]
    assert all(mean.any() for mean in means)
    assert all(not torch.equal(means[0], mean) for mean in means[1:])


@pytest.mark.parametrize("share_tower", [True, False])
def test_boxes_and_classes_see_one_tower_or_their_own(share_tower: bool) -> None:
    detector = small(MobileNetV2(0.35), input_size=(64, 64), share_tower=share_tower)
    images = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    detector(images).box_deltas.square().sum().backward()
    reached = [any(p.grad is not None for p in tower.parameters()) for tower in detector.towers]
    assert reached == ([True] if share_tower else [True, False])


@pytest.mark.parametrize("separable", [True, False])
def test_scores_start_at_one_in_a_hundred_whatever_the_image(separable: bool) -> None:
    """The signal reaches the predictor, whose small weights hardly move the scores."""
    detector = small(MobileNetV2(0.35), input_size=(128, 128), separable=separable, tower_layers=4).train()
    logits = detector(torch.randint(256, (4, 3, 128, 128), dtype=torch.uint8)).class_logits
    assert logits.std() > 1e-4
    assert 0.003 < logits.sigmoid().min() < logits.sigmoid().max() < 0.03


def test_a_dilated_backbone_is_refused() -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=r"strides \[8, 16, 16\]; .* output_stride 32"):
        small(MobileNetV2(0.35, output_stride=16))


@pytest.mark.parametrize("extra_levels", [0, 3])
def test_other_levels(extra_levels: int) -> None:
    with torch.device("meta"):
        detector = small(MobileNetV2(0.35), input_size=(64, 64), taps=("c4", "c5"), extra_levels=extra_levels).eval()
        output = detector(torch.zeros(1, 3, 64, 64))
    expected = 6 * (4 * 4 + 2 * 2 + extra_levels)  # the added maps are of one cell
    assert output.box_deltas.shape == (1, expected, 4)
    assert detector.anchors.shape[0] == expected
