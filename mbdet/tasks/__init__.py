"""Lightning modules and callbacks: training and validation of the models."""

from mbdet.tasks.base import Task
from mbdet.tasks.callbacks import EMA, History
from mbdet.tasks.classification import ClassificationTask
from mbdet.tasks.detection import DetectionTask
from mbdet.tasks.multitask import MultiTaskTask
from mbdet.tasks.qat import QuantizationAwareTraining
from mbdet.tasks.schedule import CosineDecay, ExponentialDecay, PolynomialDecay, Schedule
from mbdet.tasks.segmentation import SegmentationTask

__all__ = [
    "EMA",
    "ClassificationTask",
    "CosineDecay",
    "DetectionTask",
    "ExponentialDecay",
    "History",
    "MultiTaskTask",
    "PolynomialDecay",
    "QuantizationAwareTraining",
    "Schedule",
    "SegmentationTask",
    "Task",
]
