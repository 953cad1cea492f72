"""Export to one self-contained ONNX file that is compared with the network before it is kept."""

import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import mbdet
from mbdet.errors import InputError
from mbdet.export.base import Export, Pair, Parity
from mbdet.runtime.files import write_atomically

try:
    import onnx
    import onnxscript
    from onnx.utils import Extractor

    from mbdet.runtime.onnx import OnnxFile
except ImportError as error:
    raise InputError(f"the ONNX export needs {error.name}: pip install 'mbdet[onnx]'") from error

# Typed loosely: its annotations do not follow values through a function that is only traced.
op: Any = onnxscript.opset20
_BATCH = 2  # images compared at once: a segmenter's probabilities of many would fill the memory


def export_onnx(
    export: Export[Parity], class_names: Sequence[str], path: Path, images: NDArray[np.uint8], optional: bool = False
) -> Parity:
    """Write the file, compare it with the network, and keep it only if both agree.

    Optional outputs are compared even where the file is not to have them, before they are cut off: a map of classes
    that shows background alone would say little about the network behind it.

    Args:
        export: The network and what follows it; exported in evaluation mode.
        class_names: The K names, in the order of the labels.
        path: The file to write. It appears only when it has been verified.
        images: (B, 3, H, W) RGB to compare on, of the network's input size.
        optional: Whether the file has the optional outputs.

    Returns:
        The largest differences found.

    Raises:
        InputError: If the file's results differ from the network's, or there is nothing to compare, see
            `Export.compare`.
    """
    export.eval()
    model = _convert(export)
    with write_atomically(path) as temporary:
        _save(model, export, class_names, temporary)
        parity = export.compare(pairs(export, OnnxFile(temporary, "cpu"), images))
        if export.optional and not optional:
            kept = [name for name in export.outputs if name not in export.optional]
            _save(Extractor(model).extract_model(["images"], kept), export, class_names, temporary)
            export.compare(pairs(export, OnnxFile(temporary, "cpu"), images))
    return parity


class _Positional(nn.Module):
    """The exporter names outputs by their position, not by their key."""

    def __init__(self, export: Export[Any]) -> None:
        super().__init__()
        self.export = export

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        found = self.export(images)
        return tuple(found[name] for name in self.export.outputs)


def _convert(export: Export[Any]) -> Any:
    # Two images, because torch.export takes a size of 1 for a constant.
    example = torch.zeros(2, 3, *export.network.input_size, dtype=torch.uint8, device=_device(export))
    with warnings.catch_warnings():
        # The exporter speaks of its own internals, which a user can do nothing about.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _Positional(export).eval(),
            (example,),
            dynamo=True,
            opset_version=20,
            dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1, max=1024)}},
            input_names=["images"],
            output_names=list(export.outputs),
            custom_translation_table={torch.ops.mbdet.nms_mask.default: _nms_mask},
            external_data=False,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def _device(export: Export[Any]) -> torch.device:
    return next(export.parameters()).device


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


def _save(model: Any, export: Export[Any], class_names: Sequence[str], path: Path) -> None:
    """Write a model, with all that a user of the file must know in its metadata."""
    metadata = {
        "mbdet_version": mbdet.__version__,
        "task": export.task,
        "class_names": json.dumps(list(class_names)),
        **{name: json.dumps(note) for name, note in export.notes.items()},
        "input": json.dumps(
            {
                "layout": "NCHW",
                "size": export.network.input_size,  # height, width
                "color": "RGB",
                "dtype": "uint8",
                **export.preparation,
                "interpolation": "bilinear, antialiased",
                "normalization": "inside",
            }
        ),
        "output": json.dumps({output.name: export.outputs[output.name] for output in model.graph.output}),
    }
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, path)


@torch.no_grad()
def pairs(export: Export[Any], file: OnnxFile, images: NDArray[np.uint8]) -> Iterator[Pair]:
    """Yield what network and file give for each image in small batches, and for the first alone.

    Args:
        export: The network and what follows it, in evaluation mode.
        file: The file.
        images: (B, 3, H, W) RGB.
    """
    starts = range(0, len(images), _BATCH)
    for start, batch in [*((start, images[start : start + _BATCH]) for start in starts), (0, images[:1])]:
        found = export(torch.from_numpy(batch).to(_device(export)))
        expected = {name: values.cpu().numpy() for name, values in found.items()}
        actual = file.run(batch)
        for index in range(len(batch)):
            yield Pair(
                start + index,
                {name: values[index] for name, values in expected.items()},
                {name: values[index] for name, values in actual.items()},
            )
