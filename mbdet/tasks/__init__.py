"""Lightning modules and callbacks: training and validation of the models."""

from mbdet.tasks.callbacks import EMA, History
from mbdet.tasks.detection import DetectionTask

__all__ = ["EMA", "DetectionTask", "History"]
