"""What the file of a multitask network computes: decoded detections, and the class of every pixel."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar, NamedTuple

from torch import Tensor

from mbdet.export.base import Export, Pair
from mbdet.export.detection import DetectionExport, DetectionParity, compare_detections
from mbdet.export.segmentation import SegmentationExport, SegmentationParity, class_maps, compare_maps
from mbdet.models import MultiTask
from mbdet.ops import Postprocess


class MultiTaskParity(NamedTuple):
    """How far what a file finds is from what the network finds."""

    detection: DetectionParity
    segmentation: SegmentationParity

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
    outputs: ClassVar[Mapping[str, str]] = {
        **DetectionExport.outputs,
        **{name: text.replace("class_names", "segment_names") for name, text in SegmentationExport.outputs.items()},
    }
    optional = SegmentationExport.optional
    network: MultiTask

    def __init__(self, network: MultiTask, postprocess: Postprocess, segment_names: Sequence[str]) -> None:
        super().__init__(network)
        self.preparation = {"resize": "stretch"}
        self.notes = {"segment_names": list(segment_names)}
        self.postprocess = postprocess

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """See `Export.forward`; the outputs are those of the files of both heads."""
        detection, segmentation = self.network(images)
        found = self.postprocess(detection, self.network.detector.anchors, self.network.input_size)
        return found._asdict() | class_maps(segmentation.logits)

    def compare(self, pairs: Iterable[Pair]) -> MultiTaskParity:
        """See `compare_detections` and `compare_maps`."""
        objects: list[Pair] = []  # the pairs without their maps, which together could fill the memory

        def remember_objects() -> Iterator[Pair]:
            for pair in pairs:
                expected, actual = ({name: of[name] for name in DetectionExport.outputs} for of in pair[1:])
                objects.append(Pair(pair.image, expected, actual))
                yield pair

        maps = compare_maps(remember_objects())
        return MultiTaskParity(compare_detections(objects, self.postprocess.score_threshold), maps)
