"""What numpy does where an engine cannot, against the network's own decoding."""

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from mbdet.ops import Postprocess
from mbdet.runtime.finish import finish, nms
from mbdet.types import DetectorOutput

SIZE = (120, 160)


def outputs(seed: int, batch: int = 2, anchors: int = 90, classes: int = 4) -> tuple[DetectorOutput, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    output = DetectorOutput(
        torch.randn(batch, anchors, 4, generator=generator) * 3,
        torch.randn(batch, anchors, classes + 1, generator=generator) * 2,
    )
    corners = torch.rand(anchors, 2, generator=generator) * 100
    return output, torch.cat([corners, corners + 10 + 40 * torch.rand(anchors, 2, generator=generator)], 1)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    score_threshold=st.sampled_from([0.0, 0.3, 0.6, 1.0]),
    max_candidates=st.sampled_from([5, 50, 1000]),
    max_per_class=st.sampled_from([1, 3, 100]),
    scores=st.sampled_from(["sigmoid", "softmax"]),
)
def test_the_same_detections_as_the_network_s_own_decoding(
    seed: int, score_threshold: float, max_candidates: int, max_per_class: int, scores: str
) -> None:
    output, anchors = outputs(seed)
    postprocess = Postprocess(scores, score_threshold, 0.5, max_candidates, max_per_class, 40)  # type: ignore[arg-type]
    expected = postprocess(output, anchors, SIZE)
    boxes, class_scores = postprocess.all_candidates(output, anchors, SIZE)
    decoding = {
        "score_threshold": score_threshold,
        "iou_threshold": 0.5,
        "max_candidates": max_candidates,
        "max_per_class": max_per_class,
        "max_detections": 40,
    }
    found = finish({"anchor_boxes": boxes.numpy(), "class_scores": class_scores.numpy()}, decoding)
    for name, values in expected._asdict().items():
        np.testing.assert_allclose(found[name], values.numpy(), atol=1e-4, err_msg=name)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
def test_nms_is_torchvision_s(threshold: float) -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 50, (200, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(1, 40, (200, 2))], 1).astype(np.float32)
    labels = rng.integers(0, 3, 200)
    scores = torch.arange(200, 0, -1).float()
    given = (torch.from_numpy(boxes), scores, torch.from_numpy(labels), threshold)
    expected = torchvision.ops.batched_nms(*given).tolist()
    assert nms(boxes, labels, threshold, 200, 200).tolist() == expected
    assert nms(boxes, labels, threshold, 200, 7).tolist() == expected[:7]
    first_two = [index for index in expected if sum(labels[expected[: expected.index(index)]] == labels[index]) < 2]
    assert nms(boxes, labels, threshold, 2, 200).tolist() == first_two


def test_nothing_in_no_boxes() -> None:
    assert nms(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), 0.5, 100, 100).tolist() == []


def test_maps_of_classes_come_from_logits_or_probabilities() -> None:
    logits = np.random.default_rng(0).normal(size=(2, 5, 6, 7)).astype(np.float32)
    found = finish({"logits": logits}, None)
    assert list(found) == ["classes"]
    assert found["classes"].dtype == np.uint8
    np.testing.assert_array_equal(found["classes"], logits.argmax(1))
    found = finish({"probabilities": logits}, None)
    assert list(found) == ["probabilities", "classes"]
    whole = {"classes": np.zeros((2, 6, 7), np.uint8), "probabilities": logits}
    assert finish(whole, None)["classes"].max() == 0  # what the file says counts
    assert list(finish({"probabilities": logits[:, :, 0, 0]}, None)) == ["probabilities"]  # of a classifier


def test_of_equal_scores_the_first_are_taken() -> None:
    corners = np.arange(300, dtype=np.float32)[:, None] * 2
    boxes = np.concatenate([corners, corners, corners + 1, corners + 1], 1)[None]
    scores = np.full((1, 300, 1), 0.5, np.float32)
    scores[0, 200:210] = 0.9
    decoding = {"score_threshold": 0.1, "iou_threshold": 0.5, "max_candidates": 15, "max_per_class": 99}
    found = finish({"anchor_boxes": boxes, "class_scores": scores}, {**decoding, "max_detections": 99})
    assert (found["boxes"][0, :, 0] / 2).tolist() == [*range(200, 210), *range(5)]
