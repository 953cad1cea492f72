"""Write a trained model as a file for the device."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mbdet.config import ConfigCLI
from mbdet.data.shapes import draw_scene
from mbdet.errors import InputError
from mbdet.runtime.image import image_files, read_image

_IMAGES = 8  # compared at most


def main(argv: Sequence[str]) -> None:
    """Export, verify, and say what was found."""
    parser = argparse.ArgumentParser(
        "mbdet export",
        description="Write one self-contained file, from uint8 RGB images to boxes, scores and labels, to a map of"
        " classes, or to the probabilities of the classes. It is compared with the checkpoint before it is kept.",
        epilog="Any value of the config can be overridden: --model.postprocess.score_threshold 0.3.",
        allow_abbrev=False,
    )
    parser.add_argument("config", type=Path, help="a YAML file, see configs/")
    parser.add_argument("--weights", required=True, help="checkpoint, safetensors, or published npz or name")
    parser.add_argument("--format", choices=["onnx"], default="onnx")
    parser.add_argument("--output", type=Path, help="the file to write (default: the weights' name with the format's)")
    parser.add_argument("--images", type=Path, help="pictures to compare on (default: drawn scenes)")
    parser.add_argument(
        "--probabilities", action="store_true", help="beside a map of classes, the probability of each at every pixel"
    )
    options, overrides = parser.parse_known_args(argv)
    from mbdet.export.onnx import export_onnx

    output: Path = options.output or Path(options.weights).with_suffix(".onnx")
    if output.suffix != ".onnx":
        raise InputError(f"{output}: an ONNX file is called something.onnx")
    cli = ConfigCLI(options.config, overrides)
    if options.probabilities and "probabilities" not in cli.task.export().outputs:
        raise InputError(f"--probabilities: a {cli.task.network.kind} gives none; leave it out")
    predictor = cli.predictor(options.weights, device="cpu")
    export = cli.task.export()  # only now, as it may state names that came with the weights
    images = comparison_images(options.images, predictor.prepare, predictor.input_size)
    parity = export_onnx(export, predictor.class_names, output, images, options.probabilities)
    print(
        f"{output}: {output.stat().st_size / 1e6:.1f} MB; agrees with {options.weights} on {parity}"
        f" in {len(images)} images"
    )


def comparison_images(
    folder: Path | None, prepare: Callable[[NDArray[np.uint8]], NDArray[np.uint8]], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Return (B, 3, H, W) pictures of a folder, or drawn scenes, at the network's size.

    Args:
        folder: The first of its pictures are taken.
        prepare: Brings one to the network's size.
        size: Height and width of the scenes.
    """
    if folder is None:
        pictures = [draw_scene(0, 1, index, *size).image for index in range(_IMAGES)]
    else:
        pictures = [read_image(path) for path in image_files(folder)[:_IMAGES]]
    return np.stack([prepare(picture) for picture in pictures]).transpose(0, 3, 1, 2)
