"""What the file of a multitask network computes: decoded detections, and the class of every pixel."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import NamedTuple

from torch import Tensor

from mbdet.export.base import Export, Form, Pair, Precision
from mbdet.export.detection import FINISHED, find_objects, object_outputs
from mbdet.export.objects import Agreement, DetectionParity, compare_objects
from mbdet.export.segmentation import SegmentationParity, class_maps, compare_maps, map_outputs
from mbdet.models import MultiTask
from mbdet.ops import Postprocess


class MultiTaskParity(NamedTuple):
    """How far what a file finds is from what the network finds."""

    detection: DetectionParity | Agreement
    segmentation: SegmentationParity

    @property
    def share(self) -> float:
        """Of the detections or of the pixels, those that agree, whichever are fewer."""
        return min(self.detection.share, self.segmentation.share)

    def __str__(self) -> str:
        return f"{self.detection} and on {self.segmentation}"


class MultiTaskExport(Export[MultiTaskParity]):
    """Network, decoding and NMS of the objects, and the choice of the likeliest class at each pixel of the input.

    Args:
        network: The network; an auxiliary head is left out.
        postprocess: Decoding and NMS.
        segment_names: The names of the pixels' classes, for the metadata.
    """

    task = "multitask"
    network: MultiTask

    def __init__(self, network: MultiTask, postprocess: Postprocess, segment_names: Sequence[str]) -> None:
        super().__init__(network)
        self.preparation = {"resize": "stretch"}
        self.notes = {"segment_names": list(segment_names), "decoding": asdict(postprocess)}
        self.postprocess = postprocess

    def outputs(self, form: Form) -> dict[str, str]:
        """See `Export.outputs`."""
        return object_outputs(form) | map_outputs(form, "segment_names")

    def forward(self, images: Tensor, form: Form) -> dict[str, Tensor]:
        """See `Export.forward`; the outputs are those of the files of both heads."""
        detection, segmentation = self.network(images)
        detector = self.network.detector
        return find_objects(detection, detector, self.postprocess, form) | class_maps(segmentation.logits, form)

    def compare(self, pairs: Iterable[Pair], precision: Precision) -> MultiTaskParity:
        """See `compare_objects` and `compare_maps`."""
        objects: list[Pair] = []  # the pairs without their maps, which together could fill the memory

        def remember_objects() -> Iterator[Pair]:
            for pair in pairs:
                expected, actual = ({name: of[name] for name in FINISHED} for of in pair[1:])
                objects.append(Pair(pair.image, expected, actual))
                yield pair

        maps = compare_maps(remember_objects(), precision)
        return MultiTaskParity(compare_objects(objects, self.postprocess.score_threshold, precision), maps)
