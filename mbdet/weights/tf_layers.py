"""The layers in weights that TensorFlow wrote: variables of a checkpoint, constants of a frozen graph or of TFLite.

A layer's tensors are named after it; what follows its name, and the order of the axes, depend on who wrote the file.
Names are joined with `|` here where TensorFlow has `/`.
"""

import re

import torch
from torch import Tensor

from mbdet.weights.origin import TF, Tensors

# What training leaves in a checkpoint, and constants of a frozen graph that are no weights. Its anchors are among them:
# ours are computed.
IGNORED = re.compile(
    r".*\|(RMSProp|Momentum|Adam|Adagrad)(_\d+)?|(.*\|)?(global_step|beta[12]_power|learning_rate|anchors)"
    r"|(Preprocessor|Postprocessor|ConstantFolding|MultipleGridAnchorGenerator)\|.*|.*\|stack(_\d+)?\|\d+"
)
AVERAGE = "|ExponentialMovingAverage"
SCOPE = re.compile(r"^.*?(?=(?:FeatureExtractor\|)?MobilenetV\d\||BoxPredictor_\d+\|)")
# slim's V1 enters its scope twice for what is no variable.
REPEATED = re.compile(r"(MobilenetV\d\|)\1+")

KERNEL = re.compile(r"(depthwise_)?weights|Conv2D(\|merged_input)?")
# What the newer converter calls a depthwise kernel with its batch norm folded in; the bias has the same name.
FOLDED = re.compile(r"\|BatchNorm\|FusedBatchNormV?\d?$")
SCALE = re.compile(r"BatchNorm\|(batchnorm\|mul|FusedBatchNormV?\d?\|Scaled)")
BIAS = re.compile(r"biases|BiasAdd|(\w+_)?bias|BatchNorm\|(batchnorm\|sub|FusedBatchNormV?\d?(\|Offset)?)")
STATISTICS = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


class TFLayers:
    """The tensors of a file, taken out layer by layer.

    Args:
        tensors: By their names in TensorFlow. Averages of the weights replace the weights; what is no weight is left
            out.

    Attributes:
        remaining: What nobody took.
    """

    def __init__(self, tensors: Tensors) -> None:
        plain: Tensors = {}
        averages: Tensors = {}
        for full_name, value in tensors.items():
            # The converters name a constant after all that it was made from, the layer first.
            name = full_name.split(";")[0].removesuffix(":0").replace("/", "|")
            if IGNORED.fullmatch(name) or not value.is_floating_point() or value.ndim == 0:
                continue
            if value.ndim > 1:
                name = FOLDED.sub("|weights", name)
            kind = averages if name.endswith(AVERAGE) else plain
            name = REPEATED.sub(r"\1", SCOPE.sub("", name.removesuffix(AVERAGE), count=1))
            kind[full_name.replace("/", "|") if name in kind else name] = value  # a second one shall be reported
        self.remaining: Tensors = plain | averages
        # TFLite puts a depthwise kernel's channels last, TensorFlow its channel multiplier, which is 1.
        self._tflite = any(
            value.ndim == 4 and value.shape[0] == 1 and value.shape[1] == value.shape[2] > 1
            for value in self.remaining.values()
        )

    def has(self, layer: str) -> bool:
        """Tell whether anything belongs to a layer."""
        return any(name.startswith(f"{layer}|") for name in self.remaining)

    def take_conv_bn(self, layer: str, bn_eps: float = TF.bn_eps) -> Tensors:
        """Take a convolution with its batch norm; what is missing is missing in the result.

        Args:
            layer: Its name.
            bn_eps: Constant of the batch norm.

        Returns:
            `conv.weight` and `bn.*`. A folded batch norm becomes one that does nothing but add its bias.
        """
        state: Tensors = {}
        kernel, scale, bias = self._take(layer, KERNEL, 4), self._take(layer, SCALE, 1), self._take(layer, BIAS, 1)
        if kernel is not None:
            weight = self._oihw(kernel, layer)
            state["conv.weight"] = weight if scale is None else weight * scale.view(-1, 1, 1, 1)
        if bias is not None:
            state |= {
                "bn.weight": torch.ones_like(bias),
                "bn.bias": bias,
                "bn.running_mean": torch.zeros_like(bias),
                "bn.running_var": torch.full_like(bias, 1 - bn_eps),
            }
        for theirs, ours in STATISTICS.items():
            value = self._take(layer, re.compile(rf"BatchNorm\|{theirs}"), 1)
            if value is not None:
                state[f"bn.{ours}"] = value
        return state

    def take_conv(self, layer: str) -> Tensors:
        """Take a convolution with a bias: `weight` in PyTorch's layout and `bias`."""
        kernel, bias = self._take(layer, KERNEL, 4), self._take(layer, BIAS, 1)
        state = {} if kernel is None else {"weight": self._oihw(kernel, layer)}
        return state if bias is None else state | {"bias": bias}

    def take_linear(self, layer: str) -> Tensors:
        """Take a 1x1 convolution with a bias after the pool as a linear layer."""
        state = self.take_conv(layer)
        return {name: value.flatten(1) if name == "weight" else value for name, value in state.items()}

    def _take(self, layer: str, part: re.Pattern[str], ndim: int) -> Tensor | None:
        for name, value in self.remaining.items():
            if name.startswith(f"{layer}|") and value.ndim == ndim and part.fullmatch(name[len(layer) + 1 :]):
                return self.remaining.pop(name)
        return None

    def _oihw(self, kernel: Tensor, layer: str) -> Tensor:
        depthwise = layer.endswith("depthwise")
        if self._tflite:
            return kernel.permute((3, 0, 1, 2) if depthwise else (0, 3, 1, 2))
        return kernel.permute((2, 3, 0, 1) if depthwise else (3, 2, 0, 1))
