"""What every backbone promises."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

# RGB mean and standard deviation in [0, 255]: of ImageNet, and the pair that maps [0, 255] to [-1, 1] as TF does.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
TF_MEAN = (127.5, 127.5, 127.5)
TF_STD = (127.5, 127.5, 127.5)


class FeatureSpec(NamedTuple):
    """Shape of one feature map."""

    channels: int
    stride: int  # pixels of the input per cell, after dilation


class Backbone(nn.Module, ABC):
    """A network that turns images into named feature maps.

    Names: `c3`, `c4`, `c5` are the last maps of their level (strides 8, 16, 32 unless dilated); `c4_expand` is the
    expansion inside the first block of level 5, the tap of SSDLite. What segmentation reads of fine detail:
    `c2_depthwise` and `c3_depthwise`, the depthwise convolution inside the last block of their level (DeepLab's
    feature_extractor.py), and `c3_first`, the first block of level 3 (torchvision's segmentation).

    Attributes:
        specs: Channels and stride of every map that `forward` returns, finest first.
    """

    specs: dict[str, FeatureSpec]

    @abstractmethod
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the feature maps.

        Args:
            images: (B, 3, H, W) RGB in [0, 255], uint8 or floating point.

        Returns:
            For each name in `specs`, (B, channels, ceil(H / stride), ceil(W / stride)).
        """


class Normalize(nn.Module):
    """Normalisation as a part of the network: it belongs to the weights and travels with them.

    Args:
        mean: RGB mean in [0, 255].
        std: RGB standard deviation in [0, 255].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return (images - mean) / std in the buffers' floating point type."""
        return (images.to(self.mean.dtype) - self.mean) / self.std
