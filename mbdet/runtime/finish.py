"""What follows the network where the engine of a file could not do it: non-maximum suppression, and argmax."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

# What each finished output is made from, as far as a file has it: suppression makes all of an object from both.
MADE_FROM = {
    **dict.fromkeys(("boxes", "scores", "labels", "counts"), ("anchor_boxes", "class_scores")),
    "classes": ("logits", "probabilities"),
}


def finish(found: Mapping[str, NDArray[Any]], decoding: Mapping[str, Any] | None) -> dict[str, NDArray[Any]]:
    """Complete the outputs of a file.

    Args:
        found: The file's own outputs, each with B rows.
        decoding: The options of `mbdet.ops.Postprocess`, for a file that finds objects.

    Returns:
        The same, but `anchor_boxes` (B, A, 4) and `class_scores` (B, A, K) have become `boxes` (B, D, 4), `scores`
        (B, D), `labels` (B, D) and `counts` (B,), best first and padded; and where there are `logits` or
        `probabilities` (B, K, H, W) without `classes`, these are there too; `logits` are not. All `classes` are
        (B, H, W) uint8.
    """
    finished = dict(found)
    if "class_scores" in finished:
        assert decoding is not None
        finished |= suppress(finished.pop("anchor_boxes"), finished.pop("class_scores"), decoding)
    maps = finished.pop("logits", finished.get("probabilities"))
    if maps is not None and maps.ndim == 4 and "classes" not in finished:
        finished["classes"] = maps.argmax(1)
    if "classes" in finished:
        finished["classes"] = finished["classes"].astype(np.uint8, copy=False)  # Core ML's are int32
    return finished


def suppress(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], decoding: Mapping[str, Any]
) -> dict[str, NDArray[Any]]:
    """Choose the best boxes of each class, as `mbdet.ops.Postprocess` does.

    Args:
        boxes: (B, A, 4) xyxy pixels of the network input, clipped to it.
        scores: (B, A, K).
        decoding: The options of `mbdet.ops.Postprocess`.

    Returns:
        `boxes`, `scores`, `labels` (-1 on padding) and `counts`.
    """
    length = min(decoding["max_detections"], decoding["max_candidates"], scores[0].size)
    padded: dict[str, NDArray[Any]] = {
        "boxes": np.zeros((len(boxes), length, 4), np.float32),
        "scores": np.zeros((len(boxes), length), np.float32),
        "labels": np.full((len(boxes), length), -1, np.int64),
        "counts": np.zeros(len(boxes), np.int64),
    }
    for row, (image_boxes, image_scores) in enumerate(zip(boxes, scores, strict=True)):
        kept, labels, kept_scores = _suppress_image(image_boxes, image_scores, decoding)
        count = min(len(kept), length)
        padded["boxes"][row, :count] = kept[:count]
        padded["scores"][row, :count] = kept_scores[:count]
        padded["labels"][row, :count] = labels[:count]
        padded["counts"][row] = count
    return padded


def _suppress_image(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], decoding: Mapping[str, Any]
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
    """Return boxes, labels and scores of one image, best first."""
    flat = scores.ravel()
    order = np.flatnonzero(flat > decoding["score_threshold"])
    most = decoding["max_candidates"]
    if len(order) > most:  # the best alone, before they are sorted
        order = order[flat[order] >= np.partition(flat[order], -most)[-most]]
    # Of equal scores the first come first, also where some must go, so that others can compute the same.
    order = order[np.argsort(-flat[order], kind="stable")][:most]
    labels, candidates = order % scores.shape[1], boxes[order // scores.shape[1]]
    visible = (candidates[:, 2:] > candidates[:, :2]).all(axis=1)
    order, labels, candidates = order[visible], labels[visible], candidates[visible]
    kept = nms(candidates, labels, decoding["iou_threshold"], decoding["max_per_class"], decoding["max_detections"])
    return candidates[kept], labels[kept], flat[order[kept]]


def nms(
    boxes: NDArray[np.float32], labels: NDArray[np.int64], iou_threshold: float, max_per_class: int, limit: int
) -> NDArray[np.int64]:
    """Greedy non-maximum suppression of each class, for all classes at once, until there are enough boxes.

    Args:
        boxes: (N, 4) xyxy, best first, none of them empty.
        labels: (N,) their classes.
        iou_threshold: A box goes if its IoU with a better one of its class that stays is larger.
        max_per_class: Of a class, no more stay.
        limit: Nor altogether.

    Returns:
        Indices of those that stay, best first.
    """
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    rows = {label: np.flatnonzero(labels == label) for label in np.unique(labels)}
    taken = dict.fromkeys(rows, 0)
    alive = np.ones(len(boxes), dtype=np.bool_)
    kept: list[int] = []
    for index, label in enumerate(labels):
        if not alive[index]:
            continue
        if len(kept) == limit:
            break
        kept.append(index)
        taken[label] += 1
        others = rows[label]
        if taken[label] == max_per_class:
            alive[others] = False
            continue
        sides = np.minimum(boxes[index, 2:], boxes[others, 2:]) - np.maximum(boxes[index, :2], boxes[others, :2])
        shared = np.maximum(sides, 0).prod(axis=1)
        alive[others[shared > iou_threshold * (areas[index] + areas[others] - shared)]] = False
    return np.array(kept, np.int64)
