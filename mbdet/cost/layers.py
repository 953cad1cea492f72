"""What one convolution or fully connected layer costs, and a depthwise with its pointwise convolution."""

from dataclasses import dataclass, replace
from typing import Literal

from mbdet.cost.formulas import ConvCost, standard_cost

Kind = Literal["1x1", "depthwise", "standard", "grouped", "transposed", "fc", "matmul"]


@dataclass(frozen=True)
class LayerCost:
    """One execution of a layer for one image. A layer that runs several times has its weights in the first.

    Attributes:
        name: The module's name in the network; for arithmetic without weights of its own, the operator's.
        kind: `1x1` and `standard` (a larger kernel) are convolutions over all channels; `depthwise` has a group per
            input channel, `grouped` another number of groups; `matmul` is a product of two activations.
        kernel_size: Height and width; empty unless a convolution.
        in_channels: Channels, or features, that it reads.
        out_shape: Channels, height and width of what it makes, without the batch.
        weights: Numbers in its kernel or matrix.
        biases: Numbers in its bias.
        madds: Multiply-adds.
    """

    name: str
    kind: Kind
    kernel_size: tuple[int, ...]
    in_channels: int
    out_shape: tuple[int, ...]
    weights: int
    biases: int
    madds: int

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return self.weights + self.biases

    @property
    def out_channels(self) -> int:
        """Channels, or features, that it makes."""
        return self.out_shape[0] if self.kernel_size else self.out_shape[-1]


@dataclass(frozen=True)
class SeparablePair:
    """A depthwise convolution and the 1x1 convolution that first reads its result.

    What may stand between them is batch norm, an activation or a gate (squeeze-and-excite), which replace nothing.
    """

    depthwise: LayerCost
    pointwise: LayerCost

    @property
    def separable(self) -> ConvCost:
        """What the two cost together."""
        return ConvCost(self.depthwise.madds + self.pointwise.madds, self.depthwise.weights + self.pointwise.weights)

    @property
    def standard(self) -> ConvCost:
        """What the standard convolution costs that they stand for: same kernel, channels and size of the map."""
        kernel_height, kernel_width = self.depthwise.kernel_size
        out_channels, height, width = self.pointwise.out_shape
        cost = standard_cost((kernel_height, kernel_width), self.depthwise.in_channels, out_channels, (height, width))
        return cost if self.depthwise.weights else replace(cost, weights=0)  # counted in the first execution

    @property
    def ratio(self) -> float:
        """Multiply-adds of the two for one of the standard convolution: 1/N + 1/Dk^2 (V1 paper, equation 5)."""
        return self.separable.madds / self.standard.madds

    def to_json(self) -> dict[str, object]:
        """Return the layers' names and all figures."""
        return {
            "depthwise": self.depthwise.name,
            "pointwise": self.pointwise.name,
            "madds": self.separable.madds,
            "standard_madds": self.standard.madds,
            "weights": self.separable.weights,
            "standard_weights": self.standard.weights,
            "ratio": self.ratio,
        }
