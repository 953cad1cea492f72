"""What follows the network where the engine of a file could not do it: non-maximum suppression, and argmax."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def finish(found: Mapping[str, NDArray[Any]], decoding: Mapping[str, Any] | None) -> dict[str, NDArray[Any]]:
    """Complete the outputs of a file.

    Args:
        found: The file's own outputs, each with B rows.
        decoding: The options of `mbdet.ops.Postprocess`, for a file that finds objects.

    Returns:
        The same, but `anchor_boxes` (B, A, 4) and `class_scores` (B, A, K) have become `boxes` (B, D, 4), `scores`
        (B, D), `labels` (B, D) and `counts` (B,), best first and padded; and where there are `logits` or
        `probabilities` (B, K, H, W) without `classes`, these are there too, (B, H, W); `logits` are not.
    """
    finished = dict(found)
    if "class_scores" in finished:
        assert decoding is not None
        finished |= suppress(finished.pop("anchor_boxes"), finished.pop("class_scores"), decoding)
    maps = finished.pop("logits", finished.get("probabilities"))
    if maps is not None and maps.ndim == 4 and "classes" not in finished:
        finished["classes"] = maps.argmax(1).astype(np.uint8)
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
    if len(order) > most:
        order = order[np.argpartition(-flat[order], most - 1)[:most]]
    order = order[np.argsort(-flat[order], kind="stable")]
    labels, candidates = order % scores.shape[1], boxes[order // scores.shape[1]]
    keep = np.zeros(len(order), dtype=np.bool_)
    keep[(candidates[:, 2:] > candidates[:, :2]).all(axis=1)] = True
    for label in np.unique(labels):
        rows = np.flatnonzero(keep & (labels == label))
        keep[rows] = False
        survivors = rows[nms(candidates[rows], decoding["iou_threshold"])]
        keep[survivors[: decoding["max_per_class"]]] = True
    return candidates[keep], labels[keep], flat[order[keep]]


def nms(boxes: NDArray[np.float32], iou_threshold: float) -> NDArray[np.int64]:
    """Greedy non-maximum suppression.

    Args:
        boxes: (N, 4) xyxy, best first, none of them empty.
        iou_threshold: A box goes if its IoU with a better one that stays is larger.

    Returns:
        Indices of those that stay, best first.
    """
    corner, opposite = boxes[:, None, :2], boxes[:, None, 2:]
    sides = np.minimum(opposite, boxes[None, :, 2:]) - np.maximum(corner, boxes[None, :, :2])
    shared = np.maximum(sides, 0).prod(axis=2)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    overlaps = shared > iou_threshold * (areas[:, None] + areas[None] - shared)
    alive = np.ones(len(boxes), dtype=np.bool_)
    for index in range(len(boxes)):
        if alive[index]:
            alive[index + 1 :] &= ~overlaps[index, index + 1 :]
    return np.flatnonzero(alive)
