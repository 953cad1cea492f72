"""Any network of timm (PyTorch Image Models) as a backbone."""

import difflib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mbdet.backbones.base import Backbone, FeatureSpec, Normalize
from mbdet.errors import InputError

STRIDES = {"c3": 8, "c4": 16, "c5": 32}


class TimmBackbone(Backbone):
    """A timm network without its classifier: maps `c3`, `c4`, `c5`, and `c4_expand` in timm's MobileNets.

    `c4_expand` is the expansion inside the first stride-32 block, as in `MobileNetV2`; it is there if that block is
    timm's `InvertedResidual`, as in its MobileNetV2 and V3, MnasNet, FBNet and EfficientNet. (What timm calls an
    expansion is another map, behind the depthwise convolution.) For other networks give SSDLite `taps: [c4, c5]`.

    Networks that cut the image into patches (ConvNeXt) round the sides of their maps down: their input size must be a
    multiple of 32.

    Args:
        name: Of the network in timm, such as `mobilenetv3_large_100` or `efficientnet_lite0.ra_in1k`.
        output_stride: 32, or 16 or 8 to trade stride for dilation, where timm's network can.
        pretrained: Whether to start from timm's weights, fetched on first use. A checkpoint holds what became of them,
            and its network is built without fetching them.
        mean: RGB mean in [0, 255]; by default that of timm's weights.
        std: RGB standard deviation in [0, 255]; likewise.

    Raises:
        InputError: If timm is not installed, or has no such network or weights, or the network has no maps at strides
            8, 16 and 32, or takes one input size only.
        ValueError: For another output stride.
    """

    def __init__(
        self,
        name: str,
        output_stride: int = 32,
        pretrained: bool = False,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        if output_stride not in (8, 16, 32):
            raise ValueError(f"output_stride is {output_stride}; it must be 8, 16 or 32")
        super().__init__()
        self.name = name
        self.body = body = create_body(name, output_stride, pretrained)
        config = body.pretrained_cfg
        self.normalize = Normalize(
            [255 * value for value in config["mean"]] if mean is None else mean,
            [255 * value for value in config["std"]] if std is None else std,
        )
        reductions, channels = body.feature_info.reduction()[-3:], body.feature_info.channels()[-3:]
        if reductions != [min(stride, output_stride) for stride in STRIDES.values()]:
            raise InputError(
                f"timm's {name} gives maps at strides {reductions}, not 8, 16 and 32; choose a convolutional network"
            )
        if config.get("fixed_input_size", False):
            raise InputError(f"timm's {name} takes images of one size only; choose a convolutional network")
        c3, c4, c5 = map(FeatureSpec, channels, reductions)
        self.specs = {"c3": c3, "c4": c4, "c5": c5}
        self._c4_stages: int | None = None  # stages up to c4, if the next one begins with an expansion
        if has_expansion(body):
            self._c4_stages = body.feature_info.get("stage")[-2]
            c4_expand = FeatureSpec(body.blocks[self._c4_stages][0].conv_pw.out_channels, c4.stride)
            self.specs = {"c3": c3, "c4": c4, "c4_expand": c4_expand, "c5": c5}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """See `Backbone.forward`.

        Raises:
            ValueError: If the network rounds the sides of its maps down.
        """
        x = self.normalize(images)
        if self._c4_stages is None:
            features = dict(zip(STRIDES, self.body(x)[-3:], strict=True))
        else:
            features = self._forward_with_expansion(x, self._c4_stages)
        height, width = (-(-side // self.specs["c5"].stride) for side in images.shape[-2:])
        if not torch.compiler.is_compiling() and features["c5"].shape[-2:] != (height, width):
            raise ValueError(
                f"timm's {self.name} makes a map of {tuple(features['c5'].shape[-2:])} cells, not {(height, width)}, of"
                f" {tuple(images.shape[-2:])} pixels; give an input size that 32 divides"
            )
        return features

    def _forward_with_expansion(self, x: Tensor, c4_stages: int) -> dict[str, Tensor]:
        """Do what timm's EfficientNetFeatures and InvertedResidual do, keeping what the latter expands.

        Not a forward hook, which `torch.compile` and `torch.export` would have to follow.
        """
        body: Any = self.body
        c3_stages = body.feature_info.get("stage")[-3]
        stages = list(body.blocks)
        block, *others = stages[c4_stages]
        stem = [body.conv_stem, body.bn1, getattr(body, "act1", nn.Identity())]  # of its own in timm's MobileNetV3
        c3 = run(stem + stages[:c3_stages], x)
        c4 = run(stages[c3_stages:c4_stages], c3)
        c4_expand = run([block.conv_pw, block.bn1], c4)
        rest = [block.conv_dw, block.bn2, block.aa, block.se, block.conv_pwl, block.bn3]
        c5 = run(rest + others + stages[c4_stages + 1 :], c4_expand)
        return {"c3": c3, "c4": c4, "c4_expand": c4_expand, "c5": c5}


def run(layers: Sequence[nn.Module], x: Tensor) -> Tensor:
    """Apply layers in order."""
    for layer in layers:
        x = layer(x)
    return x


def create_body(name: str, output_stride: int, pretrained: bool) -> Any:
    """Return timm's network without its classifier.

    Raises:
        InputError: See `TimmBackbone`.
    """
    try:
        import timm
    except ImportError:
        raise InputError("TimmBackbone needs timm: pip install 'mbdet[timm]'") from None
    if ":" not in name and not timm.is_model(name):
        architecture = name.split(".")[0]
        close = difflib.get_close_matches(architecture, timm.list_models(), n=3) or ["mobilenetv3_large_100"]
        raise InputError(f"timm has no network {architecture!r}; it has, for example, {', '.join(close)}")
    # Not every network knows the word, so it is said only where it matters.
    dilation: dict[str, Any] = {} if output_stride == 32 else {"output_stride": output_stride}
    try:
        return timm.create_model(name, pretrained=pretrained, features_only=True, **dilation)
    except (AssertionError, RuntimeError, TypeError) as error:  # timm's ways to say that a network cannot do that
        complaint = " ".join(str(error).split()) or "it cannot be dilated"
        raise InputError(f"timm's {name} is no backbone with output_stride {output_stride}: {complaint}") from None


def has_expansion(body: Any) -> bool:
    """Whether the first stride-32 block is one whose expansion can be taken: timm's plain InvertedResidual."""
    from timm.models._efficientnet_blocks import InvertedResidual  # its only way to tell them apart
    from timm.models.efficientnet import EfficientNetFeatures
    from timm.models.mobilenetv3 import MobileNetV3Features

    if not isinstance(body, EfficientNetFeatures | MobileNetV3Features):
        return False
    block = body.blocks[body.feature_info.get("stage")[-2]][0]
    plain = type(block) is InvertedResidual and getattr(block, "conv_s2d", None) is None
    return plain and not block.has_skip
