"""Key map of Google's DeepLabv3 on MobileNetV2 (research/deeplab), as frozen for inference.

Names are joined with `|` where TensorFlow has `/`. Batch norms are folded into the convolutions. What such a graph does
to an image before the network, and evaluation has to do as well: resize so that the longer side is 513 pixels, then pad
to 513 x 513 with the mean, 127.5, at the bottom and right.
"""

import re

import torch
from torch import Tensor

BACKBONE = "MobilenetV2|"
# Constants of the frozen graph that are no weights: sizes, dilations, the scale of the pixels, the mean to pad with.
CONSTANTS = re.compile(
    r"(mul|sub|stack|Reshape|strided_slice|ResizeBilinear)(_\d+)?(\|.*)?|(ToFloat|Assert|SemanticPredictions)\|.*"
    r"|.*\|(SpaceToBatchND|BatchToSpaceND)\|.*"
)


def is_tf_deeplab(tensors: dict[str, Tensor]) -> bool:
    """Tell whether these are Google's DeepLabv3 on MobileNetV2."""
    return f"{BACKBONE}expanded_conv|depthwise|depthwise_weights" in tensors and any(
        name.startswith("concat_projection|") for name in tensors
    )


def from_tf_deeplab(tensors: dict[str, Tensor], bn_eps: float = 1e-3) -> dict[str, Tensor]:
    """Rename and lay out a frozen TF DeepLabv3-MobileNetV2 as `mbdet.models.DeepLabV3`.

    The network: `DeepLabV3(backbone, 21, rates=(), bn_eps=1e-3)`, with rates where there are `aspp1` and so on, on
    `MobileNetV2(last_channels=None, output_stride=8, padding="same", mean=TF_MEAN, std=TF_STD, bn_eps=1e-3)`.

    Args:
        tensors: The TF arrays by name.
        bn_eps: Epsilon of all batch norms of the network: a folded one becomes weight 1, variance 1 - eps.

    Returns:
        The state dict. Arrays with no place in it keep their TF name, so that the loader reports them.
    """
    layers = {
        "backbone.stem": f"{BACKBONE}Conv",
        "image_pooling": "image_pooling",
        "projection": "concat_projection",
    }
    for index in range(17):
        block = f"{BACKBONE}expanded_conv{f'_{index}' if index else ''}"
        for part in ("expand", "depthwise", "project") if index else ("depthwise", "project"):
            layers[f"backbone.blocks.{index}.{part}"] = f"{block}|{part}"
    for match in (re.match(r"aspp(\d+)(?=\|)", name) for name in tensors):
        if match:
            layers[f"aspp.{match[1]}"] = match[0]

    remaining = {name: value for name, value in tensors.items() if not CONSTANTS.fullmatch(name)}
    state: dict[str, Tensor] = {}
    for ours, theirs in layers.items():
        state |= {f"{ours}.{name}": value for name, value in _take_conv_bn(remaining, theirs, bn_eps).items()}
    weight = remaining.pop("logits|semantic|weights", None)
    if weight is not None:
        state["classifier.weight"] = weight.permute(3, 2, 0, 1)  # HWIO
    bias = remaining.pop("logits|semantic|biases", None)
    if bias is not None:
        state["classifier.bias"] = bias
    return state | remaining


def _take_conv_bn(tensors: dict[str, Tensor], name: str, bn_eps: float) -> dict[str, Tensor]:
    """Take one convolution with its batch norm out of `tensors`; what is missing is missing in the result."""
    state: dict[str, Tensor] = {}
    weight = tensors.pop(f"{name}|Conv2D|merged_input", None)
    if weight is not None:
        state["conv.weight"] = weight.permute(3, 2, 0, 1)  # HWIO
    weight = tensors.pop(f"{name}|depthwise_weights", None)
    scale = tensors.pop(f"{name}|BatchNorm|FusedBatchNorm|Scaled", None)
    if weight is not None and scale is not None:
        state["conv.weight"] = weight.permute(2, 3, 0, 1) * scale.view(-1, 1, 1, 1)  # HW, channel, multiplier
    bias = tensors.pop(f"{name}|BatchNorm|FusedBatchNorm|Offset", None)
    if bias is not None:
        state |= {
            "bn.weight": torch.ones_like(bias),
            "bn.bias": bias,
            "bn.running_mean": torch.zeros_like(bias),
            "bn.running_var": torch.full_like(bias, 1 - bn_eps),
        }
    return state
