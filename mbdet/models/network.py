"""What every network with a task promises."""

from abc import ABC
from typing import ClassVar

from torch import nn

from mbdet.backbones.base import Backbone


class Network(nn.Module, ABC):
    """A backbone with its heads.

    Attributes:
        kind: What it is, as a noun for messages: a detector, a classifier, ...
        backbone: Its weights can be loaded apart from the heads'.
        num_classes: K, as the task counts classes.
        input_size: Height and width of the images that it is meant for.
    """

    kind: ClassVar[str]
    backbone: Backbone
    num_classes: int
    input_size: tuple[int, int]
