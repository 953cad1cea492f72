"""Key map of TF Object Detection API detectors: SSDLite on MobileNetV2 in its variable names.

Names are joined with `|` where TensorFlow has `/`. Batch norms may be folded into the convolutions, as in frozen
graphs, or not, as in checkpoints.
"""

import re

import torch
from torch import Tensor

BACKBONE = "FeatureExtractor|MobilenetV2|"
# Constants of the frozen graph that are no weights. Its anchors are among them: ours are computed.
CONSTANTS = re.compile(
    r"(Preprocessor|Postprocessor|ConstantFolding|MultipleGridAnchorGenerator)\|.*|.*\|stack(_\d+)?\|\d+"
)
# TF numbers its class slots by COCO's category ids, which run to 90; these ten name nothing.
UNUSED_COCO_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)


def is_tf_ssdlite(tensors: dict[str, Tensor]) -> bool:
    """Tell whether these are a TF SSDLite on MobileNetV2."""
    return f"{BACKBONE}expanded_conv|depthwise|depthwise_weights" in tensors and any(
        name.startswith("BoxPredictor_0|") for name in tensors
    )


def from_tf_ssdlite(tensors: dict[str, Tensor], num_classes: int, bn_eps: float) -> dict[str, Tensor]:
    """Rename and lay out a TF SSDLite-MobileNetV2 as `mbdet.models.SSDLite`.

    Args:
        tensors: The TF arrays by name.
        num_classes: K of the network. If it is 80 and the weights have 90, the slots without a class are left out, so
            that labels are the places of COCO's 80 categories.
        bn_eps: Epsilon of the network's batch norms: a folded one becomes weight 1, variance 1 - eps.

    Returns:
        The state dict. Arrays with no place in it keep their TF name, so that the loader reports them.
    """
    layers = {
        "backbone.stem": f"{BACKBONE}Conv",
        "backbone.last": f"{BACKBONE}Conv_1",
    }
    for index in range(17):
        block = f"{BACKBONE}expanded_conv{f'_{index}' if index else ''}"
        for part in ("expand", "depthwise", "project") if index else ("depthwise", "project"):
            layers[f"backbone.blocks.{index}.{part}"] = f"{block}|{part}"
    extras = {
        match[1]: match[2]
        for match in (
            re.match(rf"{re.escape(BACKBONE)}layer_19_2_Conv2d_(\d+)_3x3_s2_(\d+)\|", name) for name in tensors
        )
        if match
    }
    for number, width in extras.items():
        extra = f"extras.{int(number) - 2}"
        layers[f"{extra}.reduce"] = f"{BACKBONE}layer_19_1_Conv2d_{number}_1x1_{int(width) // 2}"
        layers[f"{extra}.depthwise"] = f"{BACKBONE}layer_19_2_Conv2d_{number}_3x3_s2_{width}_depthwise"
        layers[f"{extra}.expand"] = f"{BACKBONE}layer_19_2_Conv2d_{number}_3x3_s2_{width}"
    predictors = {}
    for index in range(len(extras) + 2):
        for branch, tf_name in (("box_heads", "BoxEncodingPredictor"), ("class_heads", "ClassPredictor")):
            layers[f"{branch}.{index}.depthwise"] = f"BoxPredictor_{index}|{tf_name}_depthwise"
            predictors[f"{branch}.{index}.pointwise"] = f"BoxPredictor_{index}|{tf_name}"

    remaining = {name: value for name, value in tensors.items() if not CONSTANTS.fullmatch(name)}
    state: dict[str, Tensor] = {}
    for ours, theirs in layers.items():
        state |= {f"{ours}.{name}": value for name, value in _take_conv_bn(remaining, theirs, bn_eps).items()}
    for ours, theirs in predictors.items():
        weight, bias = remaining.pop(f"{theirs}|weights", None), remaining.pop(f"{theirs}|biases", None)
        if weight is None or bias is None:
            continue
        weight = weight.permute(3, 2, 0, 1)
        if ours.startswith("box_heads"):
            weight, bias = _xy_first(weight), _xy_first(bias)
        elif num_classes == 80:
            weight, bias = _without_unused(weight), _without_unused(bias)
        state |= {f"{ours}.weight": weight, f"{ours}.bias": bias}
    return state | remaining


def _take_conv_bn(tensors: dict[str, Tensor], name: str, bn_eps: float) -> dict[str, Tensor]:
    """Take one convolution with its batch norm out of `tensors`; what is missing is missing in the result."""
    state: dict[str, Tensor] = {}
    weight = None
    for kernel in ("Conv2D|merged_input", "weights"):
        if f"{name}|{kernel}" in tensors:
            weight = tensors.pop(f"{name}|{kernel}").permute(3, 2, 0, 1)  # HWIO
    if f"{name}|depthwise_weights" in tensors:
        weight = tensors.pop(f"{name}|depthwise_weights").permute(2, 3, 0, 1)  # HW, channel, multiplier
    scale = tensors.pop(f"{name}|BatchNorm|batchnorm|mul", None)
    if weight is not None:
        state["conv.weight"] = weight if scale is None else weight * scale.view(-1, 1, 1, 1)

    bias = tensors.pop(f"{name}|BatchNorm|batchnorm|sub", None)
    if bias is not None:
        state |= {
            "bn.weight": torch.ones_like(bias),
            "bn.bias": bias,
            "bn.running_mean": torch.zeros_like(bias),
            "bn.running_var": torch.full_like(bias, 1 - bn_eps),
        }
    for ours, theirs in (
        ("weight", "gamma"),
        ("bias", "beta"),
        ("running_mean", "moving_mean"),
        ("running_var", "moving_variance"),
    ):
        if f"{name}|BatchNorm|{theirs}" in tensors:
            state[f"bn.{ours}"] = tensors.pop(f"{name}|BatchNorm|{theirs}")
    return state


def _xy_first(tensor: Tensor) -> Tensor:
    """Reorder each anchor's ty, tx, th, tw to dx, dy, dw, dh along the output channels."""
    return tensor.view(-1, 4, *tensor.shape[1:])[:, [1, 0, 3, 2]].flatten(0, 1)


def _without_unused(tensor: Tensor) -> Tensor:
    """Leave the unused slots out of each anchor's 91 along the output channels; other widths stay as they are."""
    if tensor.shape[0] % 91:
        return tensor
    used = [slot for slot in range(91) if slot not in UNUSED_COCO_IDS]
    return tensor.view(-1, 91, *tensor.shape[1:])[:, used].flatten(0, 1)
