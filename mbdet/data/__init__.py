"""Data sets, their transforms, and the data modules that batch them."""

import os

# Without it every import of albumentations asks PyPI for a newer release, and waits where there is no network.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

from mbdet.data.classification import ImageFolderDataModule
from mbdet.data.crops import CropAugmentation
from mbdet.data.detection import CocoDataModule
from mbdet.data.shapes_module import ShapesDataModule
from mbdet.data.voc_module import VocDataModule

__all__ = ["CocoDataModule", "CropAugmentation", "ImageFolderDataModule", "ShapesDataModule", "VocDataModule"]
