"""What is to be known of weights from elsewhere: their names for the layers, and their conventions."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from mbdet.backbones.base import IMAGENET_MEAN, IMAGENET_STD, TF_MEAN, TF_STD
from mbdet.backbones.blocks import Padding

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Convention:
    """What a network must be like for weights to mean what they meant where they were made.

    Args:
        padding: As in `ConvConfig`.
        bn_eps: As in `ConvConfig`.
        mean: RGB mean in [0, 255].
        std: RGB standard deviation in [0, 255].
        head_bn_eps: As `bn_eps`, of the heads; None if theirs is the backbone's.
    """

    padding: Padding
    bn_eps: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    head_bn_eps: float | None = None


TF = Convention("same", 1e-3, TF_MEAN, TF_STD)
TORCHVISION_V2 = Convention("symmetric", 1e-5, IMAGENET_MEAN, IMAGENET_STD)
TORCHVISION_V3 = Convention("symmetric", 1e-3, IMAGENET_MEAN, IMAGENET_STD)
TORCHVISION_SSDLITE = Convention("symmetric", 1e-3, TF_MEAN, TF_STD)
TORCHVISION_SEGMENTATION = Convention("symmetric", 1e-3, IMAGENET_MEAN, IMAGENET_STD, head_bn_eps=1e-5)
TF_DEEPLAB = Convention("same", 1e-3, TF_MEAN, TF_STD, head_bn_eps=1e-5)
TIMM = Convention("symmetric", 1e-5, IMAGENET_MEAN, IMAGENET_STD)
TIMM_V1 = Convention("symmetric", 1e-5, TF_MEAN, TF_STD)


@dataclass(frozen=True)
class Origin:
    """A map from somebody's names to ours.

    Args:
        name: As a plural, for messages.
        recognise: Whether tensors, by their names, come from here.
        convert: Gives the tensors our names and layouts: `backbone.` and heads. The number is K of the network, 0 if
            nobody knows: where the weights have slots for classes that do not exist, it says whether to leave them out.
            A tensor without a place keeps its name, so that the loader reports it; one that lies in the backbone gets
            `backbone.` in front.
        convention: Of the weights in a file.
    """

    name: str
    recognise: Callable[[Tensors], bool]
    convert: Callable[[Tensors, int], Tensors]
    convention: Callable[[Path], Convention]


class PublishedWeights(NamedTuple):
    """Where a weight file comes from and what it is."""

    url: str
    sha256: str | None  # the first digits, as in the file's name; None where the publisher states none
    licence: str
    accuracy: str  # as published, with the data it was measured on
    convention: Convention
    fits: str  # the network, as its constructor's call


def fixed(convention: Convention) -> Callable[[Path], Convention]:
    """Return the `Origin.convention` of weights that are all alike."""
    return lambda path: convention
