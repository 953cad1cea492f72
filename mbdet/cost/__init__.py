"""What a network costs: parameters, multiply-adds, memory and file size, counted without computing anything."""

from mbdet.cost.analysis import FileSize, NetworkCost, OperatorCost, analyse
from mbdet.cost.counts import count_madds, count_parameters
from mbdet.cost.formulas import ConvCost, separable_cost, separable_ratio, standard_cost
from mbdet.cost.layers import LayerCost, SeparablePair
from mbdet.cost.memory import Peak

__all__ = [
    "ConvCost",
    "FileSize",
    "LayerCost",
    "NetworkCost",
    "OperatorCost",
    "Peak",
    "SeparablePair",
    "analyse",
    "count_madds",
    "count_parameters",
    "separable_cost",
    "separable_ratio",
    "standard_cost",
]
