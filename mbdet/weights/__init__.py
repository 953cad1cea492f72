"""Published and own weights, and the maps from their names to ours."""

from mbdet.weights.load import load_backbone_weights, load_weights
from mbdet.weights.origin import Convention, PublishedWeights
from mbdet.weights.published import PUBLISHED

__all__ = ["PUBLISHED", "Convention", "PublishedWeights", "load_backbone_weights", "load_weights"]
