"""Decoding against a plain reference, at its limits, and as an exported graph."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import clip_boxes_to_image, nms

from mbdet.ops import Postprocess
from mbdet.ops.nms import nms_mask
from mbdet.types import DetectorOutput, PaddedDetections

SIZE = (200, 320)  # height, width
Detection = tuple[float, list[float], int]  # score, box, label


def random_output(batch: int, num_anchors: int, num_classes: int, seed: int = 0) -> DetectorOutput:
    generator = torch.Generator().manual_seed(seed)
    return DetectorOutput(
        torch.randn(batch, num_anchors, 4, generator=generator) * 2,
        torch.randn(batch, num_anchors, num_classes + 1, generator=generator) * 2 - 2,
    )


def apart(number: int) -> Tensor:
    """Return anchors that do not overlap, left to right."""
    left = torch.arange(number) * 10.0
    return torch.stack([left, torch.zeros(number), left + 8, torch.full((number,), 8.0)], dim=1)


def plain(output: DetectorOutput, anchors: Tensor, config: Postprocess) -> list[list[Detection]]:
    """Decode with a loop over images and classes, over every candidate above the threshold."""
    images = []
    for deltas, logits in zip(*output, strict=True):
        scores = logits.sigmoid() if config.scores == "sigmoid" else logits.softmax(dim=-1)
        boxes = clip_boxes_to_image(BoxCoder((10.0, 10.0, 5.0, 5.0)).decode_single(deltas, anchors), SIZE)
        found: list[Detection] = []
        for label in range(scores.shape[1] - 1):
            inside = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
            above = (inside & (scores[:, label + 1] > config.score_threshold)).nonzero().flatten()
            kept = above[nms(boxes[above], scores[above, label + 1], config.iou_threshold)][: config.max_per_class]
            found += [(scores[i, label + 1].item(), boxes[i].tolist(), label) for i in kept.tolist()]
        images.append(sorted(found, key=lambda detection: -detection[0])[: config.max_detections])
    return images


def assert_equal(found: PaddedDetections, expected: list[list[Detection]]) -> None:
    assert found.counts.tolist() == [len(image) for image in expected]
    for image, detections in enumerate(expected):
        count = len(detections)
        scores, boxes, labels = zip(*detections, strict=True) if detections else ([], [], [])
        assert found.labels[image].tolist() == [*labels, *[-1] * (found.labels.shape[1] - count)]
        torch.testing.assert_close(found.scores[image, :count], torch.tensor(scores))
        torch.testing.assert_close(found.boxes[image, :count], torch.tensor(boxes).view(-1, 4), rtol=0, atol=1e-3)
        assert not found.scores[image, count:].any()
        assert not found.boxes[image, count:].any()


@pytest.mark.parametrize(
    ("num_classes", "config"),
    [
        pytest.param(1, Postprocess(score_threshold=0.05), id="one class"),
        pytest.param(80, Postprocess(score_threshold=0.9), id="80 classes"),
        pytest.param(80, Postprocess("softmax", score_threshold=0.3, iou_threshold=0.45), id="80 classes, softmax"),
        pytest.param(3, Postprocess(score_threshold=0.3, iou_threshold=0.2, max_per_class=7), id="few per class"),
        pytest.param(3, Postprocess(score_threshold=0.3, max_detections=10), id="few altogether"),
        pytest.param(20, Postprocess(score_threshold=0.99), id="almost nothing above the threshold"),
    ],
)
def test_equals_the_plain_reference(num_classes: int, config: Postprocess, random_boxes: Callable[..., Tensor]) -> None:
    anchors = random_boxes(300, seed=3)  # a part of them reaches out of the image
    output = random_output(3, 300, num_classes)
    expected = plain(output, anchors, config)
    assert any(expected)
    found = config(output, anchors, SIZE)
    assert_equal(found, expected)
    assert found.scores.shape == (3, config.max_detections)


def test_more_candidates_than_allowed_are_cut_by_score(random_boxes: Callable[..., Tensor]) -> None:
    anchors, output = random_boxes(300, seed=3), random_output(2, 300, 4)
    config = Postprocess(score_threshold=0.01, max_candidates=40)
    best = output.class_logits[..., 1:].flatten(1).topk(40)[0][:, -1, None, None]
    cut = DetectorOutput(output.box_deltas, output.class_logits.where(output.class_logits >= best, -100.0))
    assert_equal(config(output, anchors, SIZE), plain(cut, anchors, config))


def test_nothing_above_the_threshold() -> None:
    output = DetectorOutput(torch.zeros(2, 30, 4), torch.full((2, 30, 4), -20.0))
    found = Postprocess()(output, apart(30), SIZE)
    assert_equal(found, [[], []])


def test_a_score_at_the_threshold_is_dropped() -> None:
    logits = torch.tensor([[[0.0, 0.0], [0.0, 0.001]]])
    found = Postprocess(score_threshold=0.5)(DetectorOutput(torch.zeros(1, 2, 4), logits), apart(2), SIZE)
    assert found.counts.tolist() == [1]
    assert found.boxes[0, 0, 0] == 10


def test_fewer_candidates_than_detections() -> None:
    output = random_output(2, 6, 2)
    config = Postprocess(score_threshold=0.0)
    assert_equal(config(output, apart(6), SIZE), plain(output, apart(6), config))


def test_equal_scores_lose_nothing() -> None:
    """Quantised networks give them by the dozen; which comes first is left open."""
    logits = torch.zeros(1, 30, 3)
    logits[:, ::3] = 1
    found = Postprocess()(DetectorOutput(torch.zeros(1, 30, 4), logits), apart(30), (20, 300))
    anchors = [*range(0, 30, 3), *(anchor for anchor in range(30) if anchor % 3)]
    expected = [(10.0 * anchor, label) for anchor in anchors for label in range(2)]
    actual = list(zip(found.boxes[0, :, 0].tolist(), found.labels[0].tolist(), strict=True))[:60]
    assert set(actual[:20]) == set(expected[:20])
    assert set(actual) == set(expected)
    assert len(set(actual)) == 60


def test_boxes_beside_the_image_are_dropped() -> None:
    anchors = torch.tensor([[-50.0, -50, -10, -10], [5, 5, 15, 15], [300, 5, 320, 15]])
    found = Postprocess()(DetectorOutput(torch.zeros(1, 3, 4), torch.ones(1, 3, 2)), anchors, (20, 300))
    assert found.counts.tolist() == [1]
    assert found.boxes[0, 0].tolist() == [5, 5, 15, 15]


def test_the_limit_per_class_leaves_room_for_other_classes() -> None:
    logits = torch.full((1, 30, 3), -9.0)
    logits[0, :25, 1] = torch.arange(25, 0, -1) + 0.0
    logits[0, 25:, 2] = torch.arange(5, 0, -1) - 6.0
    found = Postprocess(score_threshold=1e-3, max_per_class=4, max_detections=8)(
        DetectorOutput(torch.zeros(1, 30, 4), logits), apart(30), (20, 300)
    )
    assert found.labels.tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]]
    assert found.boxes[0, :, 0].tolist() == [0, 10, 20, 30, 250, 260, 270, 280]


def test_boxes_are_clipped_before_suppression() -> None:
    """The same box within the image, although the anchors overlap little outside it."""
    anchors = torch.tensor([[-300.0, -50, 100, 100], [0, 0, 100, 300]])
    output = DetectorOutput(torch.zeros(1, 2, 4), torch.tensor([[[0.0, 2.0], [0.0, 1.0]]]))
    found = Postprocess()(output, anchors, (100, 200))
    assert found.counts.tolist() == [1]
    assert found.boxes[0, 0].tolist() == [0, 0, 100, 100]


def test_classes_do_not_suppress_each_other() -> None:
    output = DetectorOutput(torch.zeros(1, 1, 4), torch.zeros(1, 1, 81))
    found = Postprocess()(output, torch.tensor([[0.0, 0, 320, 200]]), SIZE)
    assert found.counts.tolist() == [80]
    assert sorted(found.labels[0].tolist()) == list(range(80))


def test_boxes_beside_the_image_take_the_place_of_none() -> None:
    logits = torch.full((1, 6, 2), -10.0)
    logits[0, :, 1] = torch.tensor([5.0, 4, 3, 2, 1, 0])  # the best four lie beside the image
    anchors = torch.tensor(
        [[-30.0, 10 * i, -10, 10 * i + 9] for i in range(4)] + [[5.0, 5, 25, 25], [60.0, 60, 90, 90]]
    )
    found = Postprocess(max_detections=3)(DetectorOutput(torch.zeros(1, 6, 4), logits), anchors, SIZE)
    assert found.counts.tolist() == [2]
    torch.testing.assert_close(found.boxes[0, :2], anchors[4:])


@pytest.mark.parametrize(("batch", "number"), [(2, 50), (1, 1), (3, 0)])
def test_nms_mask(batch: int, number: int, random_boxes: Callable[..., Tensor]) -> None:
    boxes = random_boxes(batch * number, seed=0).view(batch, number, 4)
    scores = torch.rand(batch, number, generator=torch.Generator().manual_seed(1))
    mask = nms_mask(boxes, scores, 0.3, 0.0, number)
    good = nms_mask(boxes, scores, 0.3, 0.5, number)
    few = nms_mask(boxes, scores, 0.3, 0.0, 3)
    for image in range(batch):
        assert mask[image].nonzero().flatten().tolist() == nms(boxes[image], scores[image], 0.3).sort()[0].tolist()
        best = nms(boxes[image], scores[image], 0.3)[:3]
        assert few[image].nonzero().flatten().tolist() == best.sort()[0].tolist()
    # What scores too little suppresses nothing, so that it makes no difference when it is left out.
    torch.testing.assert_close(good, mask & (scores > 0.5))


def test_nms_mask_is_a_proper_operator(random_boxes: Callable[..., Tensor]) -> None:
    boxes = random_boxes(40, seed=0).view(2, 20, 4)
    torch.library.opcheck(nms_mask, (boxes, torch.rand(2, 20), 0.5, 0.1, 5))


def test_exports_with_a_free_batch_size(random_boxes: Callable[..., Tensor]) -> None:
    class Decoder(nn.Module):
        def __init__(self, config: Postprocess) -> None:
            super().__init__()
            self.config = config
            self.register_buffer("anchors", random_boxes(100, seed=0))

        def forward(self, deltas: Tensor, logits: Tensor) -> PaddedDetections:
            return self.config(DetectorOutput(deltas, logits), self.anchors, SIZE)

    config = Postprocess(score_threshold=0.1, max_candidates=90, max_per_class=5, max_detections=20)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(Decoder(config), tuple(random_output(2, 100, 3)), dynamic_shapes=({0: batch},) * 2)
    for size in (1, 5):
        output = random_output(size, 100, 3, seed=size)
        found = program.module()(*output)
        torch.testing.assert_close(tuple(found), tuple(config(output, random_boxes(100, seed=0), SIZE)))
