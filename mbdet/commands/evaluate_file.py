"""Score an exported detector as a device would use it: without torch, picture by picture."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from mbdet.errors import InputError
from mbdet.metrics.coco import CocoEvaluator
from mbdet.runtime.boxes import read_coco_size
from mbdet.runtime.image import read_image
from mbdet.runtime.load import SUFFIXES, is_model_file, load_file


def evaluate_file(weights: Path, annotations: Path, images: Path, device: str | None) -> CocoEvaluator:
    """Predict for every image of a COCO instances file.

    Args:
        weights: The exported file.
        annotations: The instances file.
        images: Folder that its file names are relative to.
        device: Where to compute.

    Returns:
        The evaluation, which has yet to be computed.

    Raises:
        InputError: If a file cannot be used, the model is no detector, or its classes are not those of the annotations.
    """
    if not is_model_file(weights):
        raise InputError(f"{weights}: give an exported file ({', '.join(SUFFIXES)}), or a config before --weights")
    predictor = load_file(weights, device)
    if predictor.kind != "detector":
        raise InputError(f"{weights}: is a {predictor.kind}; give the config that describes its data before --weights")
    evaluator = CocoEvaluator(annotations)
    document: dict[str, Any] = json.loads(annotations.read_bytes())  # the evaluator has found it sound
    categories = sorted(document["categories"], key=lambda category: category["id"])
    names = tuple(str(category.get("name", category["id"])) for category in categories)
    if names != predictor.class_names:
        different = f"the first of which is {predictor.class_names[0]}"
        if len(names) == len(predictor.class_names):
            pairs = zip(names, predictor.class_names, strict=True)
            number, (theirs, ours) = next(pair for pair in enumerate(pairs, 1) if pair[1][0] != pair[1][1])
            different = f"number {number} is {theirs} instead of {ours}"
        raise InputError(
            f"{annotations}: its {len(names)} categories are not the {len(predictor.class_names)} classes of {weights},"
            f" {different}; give the annotations of the data it was trained for"
        )
    console = Console(stderr=True)
    for record in track(document["images"], "Evaluating", console=console, transient=True):
        if not isinstance(record.get("file_name"), str):
            raise InputError(f"{annotations}: image {record['id']} has no file_name; add it")
        image = read_image(images / record["file_name"], read_coco_size(record))
        evaluator.update(record["id"], predictor.predict_one(image))
    return evaluator
