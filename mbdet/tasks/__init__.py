"""Lightning modules and callbacks: training and validation of the models."""

from mbdet.tasks.base import Task
from mbdet.tasks.callbacks import EMA, History
from mbdet.tasks.classification import ClassificationTask
from mbdet.tasks.detection import DetectionTask
from mbdet.tasks.schedule import CosineDecay, ExponentialDecay, Schedule

__all__ = [
    "EMA",
    "ClassificationTask",
    "CosineDecay",
    "DetectionTask",
    "ExponentialDecay",
    "History",
    "Schedule",
    "Task",
]
