"""Data sets, their transforms, and the data modules that batch them."""

from mbdet.data.detection import CocoDataModule
from mbdet.data.shapes_module import ShapesDataModule
from mbdet.data.voc_module import VocDataModule

__all__ = ["CocoDataModule", "ShapesDataModule", "VocDataModule"]
