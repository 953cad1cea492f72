"""A sheet of predictions beside the ground truth."""

from pathlib import Path

import numpy as np
from PIL import Image

from mbdet.data.detection_dataset import DetectionDataset
from mbdet.report.draw import contact_sheet, draw_detections
from mbdet.runtime.predictor import Predictor


def draw_gallery(
    predictor: Predictor, dataset: DetectionDataset, path: Path, score_threshold: float = 0.5, count: int = 12
) -> None:
    """Draw what a detector finds in images spread over a data set; dashed boxes are the ground truth.

    Args:
        predictor: The detector.
        dataset: Where the images come from, as the network sees them.
        path: The picture to write.
        score_threshold: Objects that score less are not drawn.
        count: Number of images.
    """
    tiles = []
    for index in np.linspace(0, len(dataset) - 1, min(count, len(dataset))).astype(int).tolist():
        sample = dataset[index]
        if sample is None:  # unreadable, and skipped as the user asked
            continue
        size = np.array(sample.image.shape[:2])
        (found,) = predictor.predict(sample.image.transpose(2, 0, 1)[None], size[None])
        tiles.append(draw_detections(sample.image, found, predictor.class_names, score_threshold, sample.boxes))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.stem}.tmp{path.suffix}")
    Image.fromarray(contact_sheet(tiles, columns=4, tile_width=320)).save(temporary, quality=90)
    temporary.replace(path)
