"""Data sets, their transforms, and the data modules that batch them."""

import os

# Without it every import of albumentations asks PyPI for a newer release, and waits where there is no network.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

from mbdet.data.classification import ImageFolderDataModule
from mbdet.data.coco_segmentation_module import CocoSegmentationDataModule
from mbdet.data.crops import CropAugmentation
from mbdet.data.detection import CocoDataModule
from mbdet.data.folder_segmentation import CityscapesDataModule, FolderSegmentationDataModule
from mbdet.data.multitask import MultiTaskDataModule, TwoSetsDataModule
from mbdet.data.multitask_layouts import (
    CocoMultiTaskDataModule,
    ShapesMultiTaskDataModule,
    VocMultiTaskDataModule,
)
from mbdet.data.segmentation_transforms import SegmentationAugmentation
from mbdet.data.shapes_module import ShapesDataModule
from mbdet.data.voc_module import VocDataModule
from mbdet.data.voc_segmentation import ShapesSegmentationDataModule, VocSegmentationDataModule

__all__ = [
    "CityscapesDataModule",
    "CocoDataModule",
    "CocoMultiTaskDataModule",
    "CocoSegmentationDataModule",
    "CropAugmentation",
    "FolderSegmentationDataModule",
    "ImageFolderDataModule",
    "MultiTaskDataModule",
    "SegmentationAugmentation",
    "ShapesDataModule",
    "ShapesMultiTaskDataModule",
    "ShapesSegmentationDataModule",
    "TwoSetsDataModule",
    "VocDataModule",
    "VocMultiTaskDataModule",
    "VocSegmentationDataModule",
]
