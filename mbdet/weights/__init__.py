"""Published and own weights, and the maps from their names to ours."""

from mbdet.weights.load import load_backbone_weights, load_weights
from mbdet.weights.published import PUBLISHED, PublishedWeights

__all__ = ["PUBLISHED", "PublishedWeights", "load_backbone_weights", "load_weights"]
