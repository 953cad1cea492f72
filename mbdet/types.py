"""What travels between data, network, loss and decoding. No code, only shapes.

Shape letters: B images, A anchors, K classes (in detection, background not counted), M targets per image (padded), D
detections per image (padded), H and W pixels of the network input.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


class DetectionTargets(NamedTuple):
    """Ground truth of a batch, padded to a static shape so that matching and loss need no loop over images."""

    boxes: Tensor  # (B, M, 4) float32, xyxy pixels of the network input; zeros where not valid
    labels: Tensor  # (B, M) int64, 0..K-1; zeros where not valid
    valid: Tensor  # (B, M) bool, False on padding


class DetectionBatch(NamedTuple):
    """What the detection data module yields."""

    images: Tensor  # (B, 3, H, W) uint8 RGB, channels_last
    targets: DetectionTargets
    image_ids: Tensor  # (B,) int64, the dataset's own ids
    sizes: Tensor  # (B, 2) int64, height and width of each original image


class ClassificationBatch(NamedTuple):
    """What the classification data module yields."""

    images: Tensor  # (B, 3, H, W) uint8 RGB, channels_last
    labels: Tensor  # (B,) int64, 0..K-1
    image_ids: Tensor  # (B,) int64, positions of the images in their split
    sizes: Tensor  # (B, 2) int64, height and width of each original image


class SegmentationBatch(NamedTuple):
    """What the segmentation data modules yield."""

    images: Tensor  # (B, 3, H, W) uint8 RGB, channels_last
    masks: Tensor  # (B, H, W) uint8, 0..K-1 or 255 where a pixel does not count
    image_ids: Tensor  # (B,) int64, the dataset's own ids
    sizes: Tensor  # (B, 2) int64, height and width of each original image
    original_masks: list[NDArray[np.uint8]]  # in evaluation B masks of those sizes, in training none


class MultiTaskBatch(NamedTuple):
    """What the data modules yield whose images have boxes and masks."""

    images: Tensor  # (B, 3, H, W) uint8 RGB, channels_last
    targets: DetectionTargets
    masks: Tensor  # (B, H, W) uint8, 0..K-1 or 255 where a pixel does not count
    image_ids: Tensor  # (B,) int64, the dataset's own ids
    sizes: Tensor  # (B, 2) int64, height and width of each original image
    original_masks: list[NDArray[np.uint8]]  # in evaluation B masks of those sizes, in training none


class TwoBatches(NamedTuple):
    """What a data module of two sets yields: a batch of each, None where in evaluation a set has ended."""

    detection: DetectionBatch | None
    segmentation: SegmentationBatch | None


class DetectorOutput(NamedTuple):
    """Raw predictions of a detector, in training and in evaluation alike."""

    box_deltas: Tensor  # (B, A, 4) dx, dy, dw, dh relative to the anchors, in the coder's units
    class_logits: Tensor  # (B, A, 1 + K); background is slot 0, here and nowhere else


class PaddedDetections(NamedTuple):
    """Decoded detections of a batch, best first, padded to D."""

    boxes: Tensor  # (B, D, 4) float32, xyxy pixels of the network input
    scores: Tensor  # (B, D) float32, 0 on padding
    labels: Tensor  # (B, D) int64, 0..K-1; -1 on padding
    counts: Tensor  # (B,) int64, how many of the D are detections


class SegmenterOutput(NamedTuple):
    """Raw predictions of a segmenter, in training and in evaluation alike."""

    logits: Tensor  # (B, K, H, W); K are the data set's own classes, its background among them
    aux_logits: Tensor | None  # likewise, of an auxiliary head; None if the network was built without one


class MultiTaskOutput(NamedTuple):
    """Raw predictions of two heads on one backbone, in training and in evaluation alike."""

    detection: DetectorOutput
    segmentation: SegmenterOutput
