"""SSDLite: the agreement of its outputs with its anchors."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from mbdet.backbones import MobileNetV2
from mbdet.models import SSDLite
from mbdet.ops import AnchorConfig
from mbdet.types import DetectorOutput

Size = tuple[int, int]
small = partial(SSDLite, num_classes=3, extra_channels=(32, 32, 16, 16))


def random_images(batch: int, size: Size = (64, 96)) -> Tensor:
    return torch.randint(256, (batch, 3, *size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def small_detector(input_size: Size = (64, 96)) -> SSDLite:
    torch.manual_seed(0)
    return small(MobileNetV2(0.35, scale_last=True), input_size=input_size)


@pytest.mark.parametrize("layout", ["tf", "torchvision"])
@pytest.mark.parametrize("size", [(33, 33), (97, 211), (513, 300)])
def test_one_prediction_per_anchor_in_both_layouts(size: Size, layout: str) -> None:
    with torch.device("meta"):
        detector = small(MobileNetV2(0.35), input_size=size, anchors=AnchorConfig(layout)).eval()
        output = detector(torch.zeros(2, 3, *size))
    number = detector.anchors.shape[0]
    assert output.box_deltas.shape == (2, number, 4)
    assert output.class_logits.shape == (2, number, 4)


@pytest.mark.parametrize(("size", "number"), [((300, 300), 1917), ((320, 320), 2034)])
def test_number_of_anchors_of_the_published_models(size: Size, number: int) -> None:
    detector = small_detector(size)
    assert detector.anchors.shape == (number, 4)
    assert detector.anchors.dtype == torch.float32


@pytest.mark.parametrize("strides", [8, 16])
def test_a_dilated_backbone_has_finer_anchors(strides: int) -> None:
    with torch.device("meta"):
        detector = small(MobileNetV2(0.35, output_stride=strides), input_size=(96, 96)).eval()
        output = detector(torch.zeros(1, 3, 96, 96))
    assert output.class_logits.shape[1] == detector.anchors.shape[0]
    assert detector.anchors.shape[0] > small_detector((96, 96)).anchors.shape[0]


@torch.no_grad()
def make_transparent(detector: SSDLite) -> None:
    """Make each predictor say, at every anchor, ten times the cell's first channel plus its own output's number."""
    for head in (*detector.box_heads, *detector.class_heads):
        nn.init.zeros_(head.depthwise.conv.weight)
        head.depthwise.conv.weight[:, 0, 1, 1] = 1
        head.depthwise.bn.eps = 0.0
        nn.init.zeros_(head.pointwise.weight)
        head.pointwise.weight[:, 0] = 10
        head.pointwise.bias.copy_(torch.arange(len(head.pointwise.bias)))


@pytest.mark.parametrize(
    ("index", "grid", "cell"),
    [(0, (8, 14), (5, 2)), (1, (4, 7), (0, 6)), (2, (2, 4), (1, 0)), (3, (1, 2), (0, 1)), (4, (1, 1), (0, 0))],
)
def test_predictions_are_in_the_order_of_the_anchors(index: int, grid: Size, cell: Size) -> None:
    """One hot cell in one map: the rows that see it are those of the anchors around its centre."""
    height, width = 120, 210
    detector = small_detector((height, width)).eval()
    make_transparent(detector)

    def predict(value: float) -> DetectorOutput:
        hot = None

        def substitute(_layer: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
            nonlocal hot
            assert inputs[0].shape[-2:] == grid
            hot = torch.zeros_like(inputs[0])
            hot[:, 0, cell[0], cell[1]] = value
            return (hot,)

        heads = (detector.box_heads[index], detector.class_heads[index])
        handles = [head.register_forward_pre_hook(substitute) for head in heads]
        output: DetectorOutput = detector(random_images(1, (height, width)))
        for handle in handles:
            handle.remove()
        return output

    center = torch.tensor([(cell[1] + 0.5) * width / grid[1], (cell[0] + 0.5) * height / grid[0]])
    per_cell = 3 if index == 0 else 6
    for cold, hot in zip(predict(0.0), predict(1.0), strict=True):
        (rows,) = (hot - cold)[0].amax(dim=1).nonzero(as_tuple=True)
        centers = box_convert(detector.anchors[rows], "xyxy", "cxcywh")[:, :2]
        torch.testing.assert_close(centers, center.expand(per_cell, 2))
        # The channels of a cell are anchor by anchor, as in TF's and torchvision's weights.
        expected = 10 + torch.arange(hot.shape[2] * per_cell, dtype=torch.float32).view(per_cell, -1)
        torch.testing.assert_close(hot[0, rows], expected)


def test_each_map_has_the_anchors_of_its_own_size() -> None:
    """The coarsest map answers for the largest objects."""
    detector = small_detector((320, 320))
    sizes = box_convert(detector.anchors, "xyxy", "cxcywh")[:, 2:].prod(dim=1).sqrt()
    for start, scale in ((0, 0.1), (1, 0.2), (1200, 0.35), (1800, 0.5), (1950, 0.65), (2004, 0.8), (2028, 0.95)):
        assert sizes[start].item() == pytest.approx(320 * scale, rel=1e-4)


def test_state_dict_names() -> None:
    detector = small_detector()
    names = detector.state_dict().keys()
    assert {name for name in names if name.startswith("backbone.")} == {
        f"backbone.{name}" for name in detector.backbone.state_dict()
    }
    assert {name.split(".")[0] for name in names} == {"backbone", "extras", "box_heads", "class_heads"}


def test_initial_heads_say_little() -> None:
    """Weights of standard deviation 0.03 and no bias, as in TF: every score starts near one half."""
    for head in small_detector((320, 320)).class_heads:
        assert not head.pointwise.bias.any()
        assert head.pointwise.weight.abs().max() <= 0.06
        assert 0.02 < head.pointwise.weight.std() < 0.03
