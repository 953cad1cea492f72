"""Pure tensor functions: anchors, box coding, matching, losses, decoding. They know no model and no data set."""

from mbdet.ops.anchors import AnchorConfig, ssd_anchors
from mbdet.ops.boxes import decode_boxes, encode_boxes
from mbdet.ops.losses import FocalSSDLoss, LossTerms, SigmoidSSDLoss, SoftmaxSSDLoss, SSDLoss
from mbdet.ops.matching import match_anchors
from mbdet.ops.multiscale_anchors import MultiscaleAnchorConfig, multiscale_anchors
from mbdet.ops.postprocess import Postprocess
from mbdet.ops.segmentation_loss import SegmentationLoss

__all__ = [
    "AnchorConfig",
    "FocalSSDLoss",
    "LossTerms",
    "MultiscaleAnchorConfig",
    "Postprocess",
    "SSDLoss",
    "SegmentationLoss",
    "SigmoidSSDLoss",
    "SoftmaxSSDLoss",
    "decode_boxes",
    "encode_boxes",
    "match_anchors",
    "multiscale_anchors",
    "ssd_anchors",
]
