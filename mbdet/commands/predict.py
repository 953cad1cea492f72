"""Draw and list what a model finds in pictures."""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track

import mbdet
from mbdet.errors import InputError
from mbdet.runtime.files import check_writable, write_atomically
from mbdet.runtime.image import image_files, read_image
from mbdet.runtime.predictor import MASKS


def main(argv: Sequence[str]) -> None:
    """Write files with the predictions for each image, and one JSON with all of them."""
    parser = argparse.ArgumentParser(
        "mbdet predict",
        description="Draw boxes with names and scores, the likeliest class, or the classes of all pixels, and list them"
        " in predictions.json. Classes of pixels are also written as masks/NAME.png of the picture's size, a palette"
        " image whose values they are. An exported file runs without PyTorch, but ExecuTorch's, whose Python binding"
        " takes tensors of it.",
        epilog="With a config, any of its values can be overridden.",
        allow_abbrev=False,
    )
    parser.add_argument("model", type=Path, help="checkpoint, exported file, or config (with --weights)")
    parser.add_argument("images", type=Path, help="a picture or a folder of them")
    parser.add_argument("--weights", help="weights for a config")
    parser.add_argument(
        "--output", type=Path, default=Path("predictions"), help="folder to write (default: %(default)s)"
    )
    parser.add_argument(
        "--score",
        type=float,
        help="leave out what scores less; such pixels are 255 in a mask (default: 0.5 for boxes, else 0)",
    )
    options, overrides = parser.parse_known_args(argv)
    if overrides and options.model.suffix not in (".yaml", ".yml"):
        raise InputError(f"predict takes no {overrides[0]} with {options.model}")

    predictor = mbdet.load(options.model, options.weights, overrides)
    files = image_files(options.images)
    if files[0].parent.resolve() in (options.output.resolve(), (options.output / MASKS).resolve()):
        raise InputError(f"{options.output}: holds the pictures themselves; give another folder with --output")
    threshold = () if options.score is None else (options.score,)
    records = []
    stems = Counter(path.stem for path in files)
    check_writable(options.output / "predictions.json")
    console = Console(stderr=True)
    for path in track(files, "Predicting", console=console, transient=True):
        try:
            image = read_image(path)
        except InputError as error:
            if len(files) == 1:
                raise
            console.print(f"left out: {error}", markup=False)
            continue
        found = predictor(image, *threshold)
        # With the whole name where a.jpg and a.png would meet.
        name = path.name if stems[path.stem] > 1 else path.stem
        records.append({"file": str(path), **predictor.save(image, found, options.output, name)})
    output = options.output / "predictions.json"
    with write_atomically(output) as temporary:
        temporary.write_text(json.dumps(records, indent=1) + "\n")
    print(f"{len(records)} pictures: {options.output}/, {output}")
