"""Write a trained model as a file for the device."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mbdet.config import ConfigCLI
from mbdet.data.shapes import draw_scene
from mbdet.errors import InputError
from mbdet.runtime.image import image_files, read_image, resize
from mbdet.tasks import DetectionTask


def main(argv: Sequence[str]) -> None:
    """Export, verify, and say what was found."""
    parser = argparse.ArgumentParser(
        "mbdet export",
        description="Write one self-contained file: uint8 RGB images in, boxes, scores and labels out. It is compared"
        " with the checkpoint before it is kept.",
        epilog="Any value of the config can be overridden: --model.postprocess.score_threshold 0.3.",
        allow_abbrev=False,
    )
    parser.add_argument("config", type=Path, help="a YAML file, see configs/")
    parser.add_argument("--weights", required=True, help="checkpoint, safetensors, or published npz or name")
    parser.add_argument("--format", choices=["onnx"], default="onnx")
    parser.add_argument("--output", type=Path, help="the file to write (default: the weights' name with the format's)")
    parser.add_argument("--images", type=Path, help="pictures to compare on (default: drawn scenes)")
    options, overrides = parser.parse_known_args(argv)
    from mbdet.export.onnx import export_onnx

    output: Path = options.output or Path(options.weights).with_suffix(".onnx")
    if output.suffix != ".onnx":
        raise InputError(f"{output}: an ONNX file is called something.onnx")
    cli = ConfigCLI(options.config, overrides)
    task = cli.task
    if not isinstance(task, DetectionTask):
        raise InputError(f"{options.config}: describes a {task.network.kind}; only a detector can be exported so far")
    predictor = cli.predictor(options.weights, device="cpu")
    images = comparison_images(options.images, predictor.input_size)
    parity = export_onnx(task.network, task.postprocess, predictor.class_names, output, images)
    print(
        f"{output}: {output.stat().st_size / 1e6:.1f} MB; agrees with {options.weights} on {parity.detections}"
        f" detections in {len(images)} images (boxes to {parity.box:.2g} px, scores to {parity.score:.2g})"
    )


def comparison_images(folder: Path | None, input_size: tuple[int, int], count: int = 8) -> NDArray[np.uint8]:
    """Return (B, 3, H, W) pictures of a folder, or drawn scenes, at the network's size."""
    if folder is None:
        scenes = [draw_scene(0, 1, index, *input_size).image for index in range(count)]
    else:
        scenes = [resize(read_image(path), input_size) for path in image_files(folder)[:count]]
    return np.stack(scenes).transpose(0, 3, 1, 2)
