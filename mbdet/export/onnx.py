"""Export of a detector to one self-contained ONNX file: image in, detections out."""

import json
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import mbdet
from mbdet.errors import InputError
from mbdet.models import Detector
from mbdet.ops import Postprocess
from mbdet.runtime.files import write_atomically
from mbdet.types import PaddedDetections

try:
    import onnx
    import onnxscript

    from mbdet.runtime.onnx import OnnxPredictor
except ImportError as error:
    raise InputError(f"the ONNX export needs {error.name}: pip install 'mbdet[onnx]'") from error

# Typed loosely: its annotations do not follow values through a function that is only traced.
op: Any = onnxscript.opset20
OUTPUT_NAMES = PaddedDetections._fields
# Largest differences between file and network that rounding explains, in pixels and in score.
BOX_TOLERANCE = 0.05
SCORE_TOLERANCE = 1e-4


class EndToEnd(nn.Module):
    """Network and decoding as one module, from (B, 3, H, W) uint8 RGB to `PaddedDetections`."""

    def __init__(self, network: Detector, postprocess: Postprocess) -> None:
        super().__init__()
        self.network = network
        self.postprocess = postprocess

    def forward(self, images: Tensor) -> PaddedDetections:
        """Detect."""
        return self.postprocess(self.network(images), self.network.anchors, self.network.input_size)


class Parity(NamedTuple):
    """How far a file's detections are from the network's."""

    box: float  # pixels of the network input
    score: float
    detections: int  # how many were compared


def export_onnx(
    network: Detector,
    postprocess: Postprocess,
    class_names: tuple[str, ...],
    path: Path,
    images: NDArray[np.uint8],
) -> Parity:
    """Write the file, compare it with the network, and keep it only if both agree.

    Args:
        network: The detector; it is exported in evaluation mode.
        postprocess: Its decoding and NMS, which become part of the file.
        class_names: The K names, in the order of the labels.
        path: The file to write. It appears only when it has been verified.
        images: (B, 3, H, W) RGB to compare on, of the network's input size.

    Returns:
        The largest differences found.

    Raises:
        InputError: If the file's results differ from the network's; it says in which output and where. Likewise if the
            network finds nothing to compare in the images.
    """
    module = EndToEnd(network, postprocess).eval()
    with write_atomically(path) as temporary:
        onnx.save(_with_metadata(_convert(module), network.input_size, class_names), temporary)
        return compare(module, OnnxPredictor(temporary, "cpu"), images)


def _convert(module: EndToEnd) -> Any:
    height, width = module.network.input_size
    device = module.network.anchors.device
    # Two images, because torch.export takes a size of 1 for a constant.
    example = torch.zeros(2, 3, height, width, dtype=torch.uint8, device=device)
    with warnings.catch_warnings():
        # The exporter speaks of its own internals, which a user can do nothing about.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            opset_version=20,
            dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1, max=1024)}},
            input_names=["images"],
            output_names=list(OUTPUT_NAMES),
            custom_translation_table={torch.ops.mbdet.nms_mask.default: _nms_mask},
            external_data=False,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def _nms_mask(boxes: Any, scores: Any, iou_threshold: float) -> Any:
    """Express mbdet::nms_mask with ONNX's own operator, which knows batches and gives indices."""
    selected = op.NonMaxSuppression(
        boxes,
        op.Unsqueeze(scores, op.Constant(value_ints=[1])),
        op.Shape(scores, start=1, end=2),
        op.Constant(value_floats=[iou_threshold]),
    )
    image_and_box = op.Gather(selected, op.Constant(value_ints=[0, 2]), axis=1)
    nothing = op.Expand(op.Cast(op.Constant(value_ints=[0]), to=onnx.TensorProto.BOOL), op.Shape(scores))
    marks = op.Expand(op.Cast(op.Constant(value_ints=[1]), to=onnx.TensorProto.BOOL), op.Shape(selected, end=1))
    return op.ScatterND(nothing, image_and_box, marks)


def _with_metadata(model: Any, input_size: tuple[int, int], class_names: tuple[str, ...]) -> Any:
    metadata = {
        "mbdet_version": mbdet.__version__,
        "task": "detection",
        "class_names": json.dumps(class_names),
        "input": json.dumps(
            {
                "layout": "NCHW",
                "size": input_size,  # height, width
                "color": "RGB",
                "dtype": "uint8",
                "resize": "stretch, bilinear, antialiased",
                "normalization": "inside",
            }
        ),
        "output": json.dumps({"boxes": "xyxy pixels of the network input", "labels": "indices into class_names"}),
    }
    onnx.helper.set_model_props(model, metadata)
    return model


@torch.no_grad()
def compare(module: EndToEnd, predictor: OnnxPredictor, images: NDArray[np.uint8]) -> Parity:
    """Compare a file with the network on a batch and on its first image alone.

    Each detection of one must have a counterpart of its own in the other. Only those that score within the tolerance of
    the lowest kept score, or less, may be in one result and not in the other.

    Raises:
        InputError: At the first output that differs.
    """
    box, score, count = 0.0, 0.0, 0
    for batch in (images, images[:1]):
        device = module.network.anchors.device
        expected = [tensor.cpu().numpy() for tensor in module(torch.from_numpy(batch).to(device))]
        actual = predictor.run(batch)
        for index in range(len(batch)):
            parity = _compare_image(
                PaddedDetections(*(values[index] for values in expected)),
                PaddedDetections(*(values[index] for values in actual)),
                module.postprocess.score_threshold,
            )
            box, score, count = max(box, parity.box), max(score, parity.score), count + parity.detections
    if count == 0:
        raise InputError(
            "the network finds nothing in the comparison images, so the exported file cannot be verified and was not"
            " kept; give pictures of its objects with --images FOLDER, or lower --model.postprocess.score_threshold"
        )
    return Parity(box, score, count)


def _compare_image(expected: Any, actual: Any, threshold: float) -> Parity:
    """Pair the detections of one image off, best first; both are `PaddedDetections` of numpy arrays."""
    box, score, count = 0.0, 0.0, 0
    kept = expected.scores[: int(expected.counts)]
    floor = kept.min(initial=1.0 if len(kept) else threshold) + SCORE_TOLERANCE
    free = np.arange(len(actual.scores)) < int(actual.counts)  # what has not been found to be a counterpart yet
    for i in np.flatnonzero(kept > floor):
        boxes = np.abs(actual.boxes - expected.boxes[i]).max(axis=1)
        scores = np.abs(actual.scores - expected.scores[i])
        same_label = free & (actual.labels == expected.labels[i])
        same_box, same_score = free & (boxes <= BOX_TOLERANCE), free & (scores <= SCORE_TOLERANCE)
        same = np.flatnonzero(same_label & same_box & same_score)
        if not len(same):
            name = "labels" if (same_box & same_score).any() else "scores" if (same_label & same_box).any() else "boxes"
            raise _difference(name, expected, int(i), "of the checkpoint has no counterpart in the file")
        best = same[np.argmin(boxes[same])]
        free[best] = False
        box, score, count = max(box, float(boxes[best])), max(score, float(scores[best])), count + 1
    # A counterpart of what lies at the floor may lie as far above it.
    for i in np.flatnonzero(free & (actual.scores > floor + SCORE_TOLERANCE)):
        raise _difference("counts", actual, int(i), "of the file has no counterpart in the checkpoint")
    return Parity(box, score, count)


def _difference(name: str, detections: Any, index: int, problem: str) -> InputError:
    return InputError(
        f"the exported file differs from the checkpoint in output {name!r}: a detection of class"
        f" {detections.labels[index]} with score {detections.scores[index]:.3f} {problem}; the file was not kept"
    )
