"""What the file of a detector computes: decoded detections."""

from collections.abc import Iterable
from dataclasses import asdict

from torch import Tensor

from mbdet.export.base import Export, Form, Pair, Precision
from mbdet.export.objects import Agreement, DetectionParity, compare_objects
from mbdet.models import Detector
from mbdet.ops import Postprocess
from mbdet.types import DetectorOutput

FINISHED = {
    "boxes": "xyxy pixels of the network input, best first",
    "scores": "0 on padding",
    "labels": "indices into class_names, -1 on padding",
    "counts": "how many are detections, the rest is padding",
}
UNSUPPRESSED = {
    "anchor_boxes": "xyxy pixels of the network input, one for each anchor",
    "class_scores": "of each anchor for each of class_names; best boxes and non-maximum suppression are still to be"
    " done, as decoding says",
}


class DetectionExport(Export[DetectionParity | Agreement]):
    """Network, decoding and NMS.

    Args:
        network: The detector.
        postprocess: Its decoding and NMS.
    """

    task = "detection"
    network: Detector

    def __init__(self, network: Detector, postprocess: Postprocess) -> None:
        super().__init__(network)
        self.preparation = {"resize": "stretch"}
        self.notes = {"decoding": asdict(postprocess)}
        self.postprocess = postprocess

    def outputs(self, form: Form) -> dict[str, str]:
        """See `Export.outputs`."""
        return object_outputs(form)

    def forward(self, images: Tensor, form: Form) -> dict[str, Tensor]:
        """See `Export.forward` and `find_objects`."""
        return find_objects(self.network(images), self.network, self.postprocess, form)

    def compare(self, pairs: Iterable[Pair], precision: Precision) -> DetectionParity | Agreement:
        """See `compare_objects`."""
        return compare_objects(pairs, self.postprocess.score_threshold, precision)


def object_outputs(form: Form) -> dict[str, str]:
    """Describe the outputs of `find_objects`."""
    return dict(FINISHED if form.nms else UNSUPPRESSED)


def find_objects(output: DetectorOutput, detector: Detector, postprocess: Postprocess, form: Form) -> dict[str, Tensor]:
    """Return the fields of `PaddedDetections`, or what every anchor says, see `Postprocess.all_candidates`."""
    if form.nms:
        return postprocess(output, detector.anchors, detector.input_size)._asdict()
    boxes, scores = postprocess.all_candidates(output, detector.anchors, detector.input_size)
    return {"anchor_boxes": boxes, "class_scores": scores}
