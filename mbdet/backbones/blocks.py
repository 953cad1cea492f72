"""Convolution blocks and the arithmetic of widths, padding and dilation that the MobileNets share."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Padding = Literal["symmetric", "same"]
Activation = Literal["relu6", "relu", "hard_swish", "linear"]
Dilation = Literal["google", "torchvision"]


@dataclass(frozen=True)
class ConvConfig:
    """What tells apart the conventions of the frameworks that published weights.

    Args:
        padding: `symmetric` pads k // 2 on every side (PyTorch weights); `same` pads as TensorFlow does, which on even
            sizes at stride 2 is one pixel more at the bottom and right (TF weights).
        bn_eps: Added to the variance: 1e-5 in torchvision's V2, 1e-3 in TF and in torchvision's V3 and SSDLite.
        bn_momentum: Weight of the newest batch in the running statistics, PyTorch's way round: 0.1 in torchvision's V2,
            0.03 for TF's decay of 0.97, 0.0003 for 0.9997.
    """

    padding: Padding = "symmetric"
    bn_eps: float = 1e-5
    bn_momentum: float = 0.1

    def __post_init__(self) -> None:
        """Refuse a misspelt option, which would silently act as the other one."""
        if self.padding not in get_args(Padding):
            raise ValueError(f"padding is {self.padding!r}; it must be one of {get_args(Padding)}")


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding: what is odd goes to the bottom and right."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C, H, W) to (B, C', ceil(H / stride), ceil(W / stride))."""
        pads: list[int] = []
        for size, kernel, stride, dilation in zip(
            x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], self.dilation[::-1], strict=True
        ):
            reach = (math.ceil(size / stride) - 1) * stride + (kernel - 1) * dilation + 1
            total = max(reach - size, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(x, pads) if any(pads) else x)


def activation(name: Activation) -> nn.Module:
    """Return an activation as a layer; `linear` is none."""
    layers: dict[Activation, type[nn.Module]] = {
        "relu6": nn.ReLU6,
        "relu": nn.ReLU,
        "hard_swish": nn.Hardswish,
        "linear": nn.Identity,
    }
    return layers[name]()


def conv2d(
    in_channels: int,
    out_channels: int,
    config: ConvConfig,
    kernel_size: int = 1,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = False,
) -> nn.Conv2d:
    """Return a convolution that is padded as `config` says, to ceil(H / stride) x ceil(W / stride)."""
    conv = SameConv2d if config.padding == "same" and stride > 1 else nn.Conv2d
    padding = 0 if conv is SameConv2d else dilation * (kernel_size // 2)
    return conv(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)


class ConvBNAct(nn.Module):
    """Convolution without bias, batch norm, and ReLU6 unless told otherwise.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        config: Padding and batch norm constants.
        kernel_size: Side of the kernel, odd.
        stride: Step.
        dilation: Distance between the taps of the kernel.
        groups: `in_channels` makes it depthwise.
        act: What follows; `linear` is the bottleneck of V2 and V3.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        config: ConvConfig,
        kernel_size: int = 1,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        act: Activation = "relu6",
    ) -> None:
        super().__init__()
        self.conv = conv2d(in_channels, out_channels, config, kernel_size, stride, dilation, groups)
        self.bn = nn.BatchNorm2d(out_channels, config.bn_eps, config.bn_momentum)
        self.act = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the three in order."""
        out: Tensor = self.act(self.bn(self.conv(x)))
        return out


def depthwise(
    channels: int,
    config: ConvConfig,
    stride: int = 1,
    dilation: int = 1,
    kernel_size: int = 3,
    act: Activation = "relu6",
) -> ConvBNAct:
    """Return a convolution of each channel by itself, with batch norm and an activation."""
    return ConvBNAct(channels, channels, config, kernel_size, stride, dilation, groups=channels, act=act)


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate that sees the whole map (V3 paper, section 5.3; slim's squeeze_excite).

    Args:
        channels: Channels in and out.
        squeezed: Channels between the two 1x1 convolutions, which have a bias and no batch norm.
    """

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Gate (B, C, H, W)."""
        gate: Tensor = F.hardsigmoid(self.expand(F.relu(self.reduce(x.mean((2, 3), keepdim=True)))))
        return x * gate


def make_divisible(value: float, divisor: int = 8, min_value: int = 8) -> int:
    """Round a width to a multiple of `divisor`, never down by more than 10 % (slim: nets/mobilenet/mobilenet.py).

    Args:
        value: The width.
        divisor: What the result is a multiple of.
        min_value: The result is no smaller.
    """
    rounded = max(min_value, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def dilate(strides: Iterable[int], output_stride: int, convention: Dilation = "google") -> Iterator[tuple[int, int]]:
    """Trade stride for dilation once the output stride is reached.

    The layers after one that gives up its stride are dilated by it. That layer itself keeps the dilation so far in
    Google's convention (slim mobilenet.py), and has the new one already in torchvision's (mobilenetv3.py).

    Args:
        strides: Stride of each layer, from the image on.
        output_stride: 8, 16 or 32.
        convention: `google` or `torchvision`.

    Yields:
        Stride and dilation to use for each layer.

    Raises:
        ValueError: For another output stride.
    """
    if output_stride not in (8, 16, 32):
        raise ValueError(f"output_stride is {output_stride}; it must be 8, 16 or 32")
    reached, dilation = 1, 1
    for stride in strides:
        if reached < output_stride:
            reached *= stride
            yield stride, dilation
        else:
            before = dilation
            dilation *= stride
            yield 1, (before if convention == "google" else dilation)


@torch.no_grad()
def init_weights(module: nn.Module, std: float | None = None) -> None:
    """Initialise every convolution and batch norm below `module`.

    Args:
        module: Changed in place.
        std: Standard deviation of the convolutions' normal distribution, truncated at two (0.09 in slim's backbones,
            0.03 in the TF SSD heads); None for He initialisation by fan out, as torchvision's MobileNets.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            if std is None:
                nn.init.kaiming_normal_(layer.weight, mode="fan_out")
            else:
                nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
