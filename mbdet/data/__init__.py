"""Data sets, their transforms, and the data modules that batch them."""

from mbdet.data.detection import CocoDataModule
from mbdet.data.shapes_module import ShapesDataModule

__all__ = ["CocoDataModule", "ShapesDataModule"]
