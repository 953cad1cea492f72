"""SSDLite against the published counts, and the agreement of its outputs with its anchors."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from mbdet.backbones import MobileNetV2
from mbdet.cost import count_madds, count_parameters
from mbdet.models import Detector, SSDLite
from mbdet.ops import AnchorConfig
from mbdet.types import DetectorOutput

Size = tuple[int, int]
small = partial(SSDLite, num_classes=3, extra_channels=(32, 32, 16, 16))


def random_images(batch: int, size: Size = (64, 96)) -> Tensor:
    return torch.randint(256, (batch, 3, *size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def small_detector(input_size: Size = (64, 96), seed: int = 0) -> SSDLite:
    torch.manual_seed(seed)
    return small(MobileNetV2(0.35, scale_last=True), input_size=input_size)


def settled(detector: SSDLite) -> SSDLite:
    """Give the batch norms statistics that keep the activations alive, and return the network in evaluation mode."""
    for layer in detector.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    detector.train()(random_images(4, detector.input_size))
    return detector.eval()


@pytest.mark.parametrize(
    ("width_mult", "extra_channels", "num_classes", "parameters", "with_batch_norm", "billions"),
    [
        (1.0, (512, 256, 256, 128), 80, 4_286_261, None, 0.789),
        (1.0, (512, 256, 256, 128), 90, 4_449_791, 4_500_543, 0.804),
        (0.5, (256, 128, 128, 64), 90, 1_536_527, None, 0.272),
        (0.35, (179, 89, 89, 44), 90, 929_531, None, 0.167),
    ],
)
def test_costs_of_the_published_models(
    width_mult: float,
    extra_channels: tuple[int, ...],
    num_classes: int,
    parameters: int,
    with_batch_norm: int | None,
    billions: float,
) -> None:
    """The papers' tables leave the batch norms out."""
    with torch.device("meta"):
        detector = SSDLite(MobileNetV2(width_mult, scale_last=True), num_classes, extra_channels=extra_channels).eval()
        assert count_parameters(detector, batch_norm=False) == parameters
        assert count_parameters(detector) == (with_batch_norm or count_parameters(detector))
        assert count_madds(detector, torch.zeros(1, 3, 320, 320)) / 1e9 == pytest.approx(billions, abs=0.0005)


def test_costs_of_heads_and_extra_layers() -> None:
    """MobileNetV2 paper, table 5; its multiply-adds are twice those of the separable heads."""
    with torch.device("meta"):
        backbone = MobileNetV2().eval()
        detector = SSDLite(backbone, 80).eval()
        images = torch.zeros(1, 3, 320, 320)
        parameters = count_parameters(detector, batch_norm=False) - count_parameters(backbone, batch_norm=False)
        madds = count_madds(detector, images) - count_madds(backbone, images)
    assert parameters / 1e6 == pytest.approx(2.10, abs=0.005)
    assert madds / 1e9 == pytest.approx(0.178, abs=0.0005)


@pytest.mark.parametrize("padding", ["symmetric", "same"])
@pytest.mark.parametrize("layout", ["tf", "torchvision"])
@pytest.mark.parametrize("size", [(320, 320), (300, 300), (33, 33), (97, 211), (224, 640), (513, 300), (65, 1024)])
def test_one_prediction_per_anchor(size: Size, layout: str, padding: str) -> None:
    with torch.device("meta"):
        backbone = MobileNetV2(0.35, padding=padding)
        detector = small(backbone, input_size=size, anchors=AnchorConfig(layout), padding=padding).eval()
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


def test_wrong_arguments_are_refused() -> None:
    with torch.device("meta"):
        backbone = MobileNetV2(0.35)
        with pytest.raises(ValueError, match=r"taps \['c6'\] .*'c4_expand', 'c5'"):
            small(backbone, taps=("c4", "c6"))
        with pytest.raises(ValueError, match=r"input_size is \(32, 320\).* 33 pixels"):
            small(backbone, input_size=(32, 320))


@pytest.mark.parametrize("size", [(96, 64), (64, 95), (32, 96)])
def test_images_of_another_size_are_refused(size: Size) -> None:
    with pytest.raises(ValueError, match=rf"\({size[0]}, {size[1]}\).*\(64, 96\)"):
        small_detector()(random_images(1, size))


def test_forward_means_the_same_in_training_and_evaluation() -> None:
    detector = small_detector()
    assert isinstance(detector, Detector)
    training, evaluation = detector.train()(random_images(2)), detector.eval()(random_images(2))
    for output in (training, evaluation):
        assert type(output) is DetectorOutput
        assert output.box_deltas.shape == (2, len(detector.anchors), 4)
        assert output.class_logits.shape == (2, len(detector.anchors), 4)


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


def test_backward_reaches_every_parameter() -> None:
    detector = small_detector()
    sum(part.square().mean() for part in detector(random_images(4))).backward()
    unreached = [name for name, p in detector.named_parameters() if p.grad is None or not p.grad.any()]
    assert not unreached
    assert all(p.grad.isfinite().all() for p in detector.parameters() if p.grad is not None)


def test_state_dict_names() -> None:
    detector = small_detector()
    names = detector.state_dict().keys()
    assert {name for name in names if name.startswith("backbone.")} == {
        f"backbone.{name}" for name in detector.backbone.state_dict()
    }
    assert {name.split(".")[0] for name in names} == {"backbone", "extras", "box_heads", "class_heads"}


def test_state_dict_round_trip() -> None:
    first, second = settled(small_detector()), small_detector(seed=1).eval()
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(first(random_images(1)), second(random_images(1)), rtol=0, atol=0)


def test_exports_with_a_free_batch_size() -> None:
    detector = settled(small_detector())
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(detector, (random_images(2),), dynamic_shapes=({0: batch},))
    for size in (1, 3):
        output = detector(random_images(size))
        assert output.class_logits.std() > 0.05
        torch.testing.assert_close(tuple(program.module()(random_images(size))), tuple(output), rtol=1e-3, atol=1e-3)


def test_initial_heads_say_little() -> None:
    """Weights of standard deviation 0.03 and no bias, as in TF: every score starts near one half."""
    for head in small_detector((320, 320)).class_heads:
        assert not head.pointwise.bias.any()
        assert head.pointwise.weight.abs().max() <= 0.06
        assert 0.02 < head.pointwise.weight.std() < 0.03
