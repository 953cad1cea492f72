"""ONNX files, for ONNX Runtime on servers, phones and in browsers."""

import json
from pathlib import Path
from typing import Any

import torch

from mbdet.errors import InputError
from mbdet.export.converting import converting
from mbdet.export.format import Format, Order

try:
    import onnx
    import onnxscript

    from mbdet.export.onnx_precision import halve, quantize
    from mbdet.runtime.onnx import OnnxFile
except ImportError as error:
    raise InputError(f"the ONNX export needs {error.name}: pip install 'mbdet[onnx]'") from error

# Typed loosely: its annotations do not follow values through a function that is only traced.
op: Any = onnxscript.opset20


class OnnxFormat(Format):
    """ONNX: one file of standard operators, with its description inside."""

    name = "ONNX"
    suffix = ".onnx"
    libraries = ("onnx", "onnx-ir", "onnxscript", "onnxruntime")
    precisions = ("fp32", "fp16", "int8")
    nms = True
    dynamic_batch = True

    def write(self, order: Order, path: Path) -> dict[str, Any]:
        """See `Format.write`."""
        model = convert(order)
        with converting(self.name):
            if order.precision == "fp16":
                model = halve(model)
            elif order.precision == "int8":
                assert order.calibration is not None  # see `check_order`
                model = quantize(model, order.calibration, order.float_layers)
        for part in (*model.graph.node, *model.graph.value_info, *model.graph.initializer, model.graph):
            del part.metadata_props[:]  # the exporter's: where on this machine each line of our code lies
        # All that a user of the file must know; text as it is, all else as JSON.
        description = order.describe()
        texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in description.items()}
        onnx.helper.set_model_props(model, texts)
        onnx.save(model, path)
        return {}

    def open(self, path: Path) -> OnnxFile:
        """See `Format.open`."""
        return OnnxFile(path, "cpu")


def convert(order: Order) -> onnx.ModelProto:
    """Return the network and what follows it as operators of ONNX, in single precision."""
    # Two images where the batch is dynamic, because torch.export takes a size of 1 for a constant.
    example = order.example(batch=1).expand(2 if order.dynamic_batch else 1, -1, -1, -1).contiguous()
    batch = torch.export.Dim("batch", min=1, max=1024)
    with converting("ONNX"):
        program = torch.onnx.export(
            order.module,
            (example.to(next(order.export.parameters()).device),),
            dynamo=True,
            opset_version=20,
            dynamic_shapes={"images": {0: batch}} if order.dynamic_batch else None,
            input_names=["images"],
            output_names=list(order.outputs),
            custom_translation_table={torch.ops.mbdet.nms_mask.default: _nms_mask},
            external_data=False,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def _nms_mask(boxes: Any, scores: Any, iou_threshold: float, score_threshold: float, limit: int) -> Any:
    """Express mbdet::nms_mask with ONNX's own operator, which knows batches and gives indices."""
    selected = op.NonMaxSuppression(
        boxes,
        op.Unsqueeze(scores, op.Constant(value_ints=[1])),
        op.Constant(value_ints=[limit]),
        op.Constant(value_floats=[iou_threshold]),
        op.Constant(value_floats=[score_threshold]),
    )
    image_and_box = op.Gather(selected, op.Constant(value_ints=[0, 2]), axis=1)
    nothing = op.Expand(op.Cast(op.Constant(value_ints=[0]), to=onnx.TensorProto.BOOL), op.Shape(scores))
    marks = op.Expand(op.Cast(op.Constant(value_ints=[1]), to=onnx.TensorProto.BOOL), op.Shape(selected, end=1))
    return op.ScatterND(nothing, image_and_box, marks)
