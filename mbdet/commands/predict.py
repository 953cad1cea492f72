"""Draw what a model finds in pictures."""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.progress import track

import mbdet
from mbdet.errors import InputError
from mbdet.report.draw import draw_detections
from mbdet.runtime.image import image_files, read_image
from mbdet.runtime.types import Detections


def main(argv: Sequence[str]) -> None:
    """Write a picture with boxes for each image, and one JSON with all of them."""
    parser = argparse.ArgumentParser(
        "mbdet predict",
        description="Draw boxes with names and scores. An ONNX file runs without PyTorch.",
        epilog="With a config, any of its values can be overridden.",
        allow_abbrev=False,
    )
    parser.add_argument("model", type=Path, help="checkpoint, exported ONNX file, or config (with --weights)")
    parser.add_argument("images", type=Path, help="a picture or a folder of them")
    parser.add_argument("--weights", help="weights for a config")
    parser.add_argument(
        "--output", type=Path, default=Path("predictions"), help="folder to write (default: %(default)s)"
    )
    parser.add_argument("--score", type=float, default=0.5, help="leave out what scores less (default: %(default)s)")
    options, overrides = parser.parse_known_args(argv)
    if overrides and options.model.suffix not in (".yaml", ".yml"):
        raise InputError(f"predict takes no {overrides[0]} with {options.model}")

    predictor = mbdet.load(options.model, options.weights, overrides)
    files = image_files(options.images)
    if options.output.resolve() == files[0].parent.resolve():
        raise InputError(f"{options.output}: holds the pictures themselves; give another folder with --output")
    names = predictor.class_names
    records = []
    stems = Counter(path.stem for path in files)
    options.output.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True)
    for path in track(files, "Detecting", console=console, transient=True):
        try:
            image = read_image(path)
        except InputError as error:
            if len(files) == 1:
                raise
            console.print(f"left out: {error}", markup=False)
            continue
        found = predictor(image, options.score)
        drawn = draw_detections(image, found, names, options.score)
        # With the whole name where a.jpg and a.png would meet.
        name = path.name if stems[path.stem] > 1 else path.stem
        Image.fromarray(drawn).save(options.output / f"{name}.jpg", quality=90)
        records.append({"file": str(path), "objects": as_records(found, names)})
    output = options.output / "predictions.json"
    temporary = output.with_suffix(".tmp")
    temporary.write_text(json.dumps(records, indent=1) + "\n")
    temporary.replace(output)
    objects = sum(len(record["objects"]) for record in records)
    print(f"{objects} objects in {len(records)} pictures: {options.output}/, {output}")


def as_records(found: Detections, names: Sequence[str]) -> list[dict[str, object]]:
    """Return detections as plain values: name, score, and box as xyxy pixels of the picture."""
    return [
        {"name": names[label] if names else str(label), "score": round(score, 4), "box": [round(x, 2) for x in box]}
        for box, score, label in zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
    ]
