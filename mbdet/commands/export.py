"""Write a trained model as files for the device."""

import argparse
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from mbdet.checkpoint import checkpoint_metrics
from mbdet.config import ConfigCLI
from mbdet.data.base import ImageDataModule
from mbdet.data.multitask import TwoSetsDataModule
from mbdet.data.shapes import draw_scene
from mbdet.errors import InputError
from mbdet.export.base import Export, Form, Precision
from mbdet.export.format import Format, Order, limit, write_verified
from mbdet.export.formats import NAMES, find_format
from mbdet.runtime.image import image_files, read_image
from mbdet.runtime.model_file import description_beside, read_description
from mbdet.runtime.predictor import Predictor

_COMPARED = 8  # images at most
Data = ImageDataModule[Any, Any] | TwoSetsDataModule
Prepare = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


def main(argv: Sequence[str]) -> None:
    """Export, verify, and say what was found."""
    parser = argparse.ArgumentParser(
        "mbdet export",
        description="Write a file for the device, from RGB images to boxes, scores and labels, to a map of classes, or"
        " to the probabilities of the classes. It is compared with the checkpoint before it is kept, and its"
        " description stands beside it as FILE.json.",
        epilog="Any value of the config can be overridden: --model.postprocess.score_threshold 0.3.",
        allow_abbrev=False,
    )
    parser.add_argument("config", type=Path, help="a YAML file, see configs/")
    parser.add_argument("--weights", required=True, help="checkpoint, safetensors, or published npz or name")
    parser.add_argument("--format", choices=[*NAMES, "all"], default="onnx")
    parser.add_argument("--precision", choices=get_args(Precision), default="fp32")
    parser.add_argument(
        "--output",
        type=Path,
        help="the file to write, for all formats without its suffix (default: the weights' name with the format's)",
    )
    parser.add_argument(
        "--images",
        type=Path,
        help="pictures to compare on (default: of --calibration, or of the config's validation data, or drawn)",
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="FOLDER",
        help="pictures such as the device will see, to learn the ranges of activations from; int8 needs them",
    )
    parser.add_argument(
        "--calibration_images", type=int, default=128, help="how many of them, evenly spread (default: %(default)s)"
    )
    parser.add_argument(
        "--keep_float", nargs="+", default=[], metavar="LAYER", help="layers that int8 leaves as they are"
    )
    parser.add_argument(
        "--nms",
        action=argparse.BooleanOptionalAction,
        help="whether non-maximum suppression is inside (default: where the format's runtimes have it)",
    )
    parser.add_argument("--dynamic_batch", action="store_true", help="take any number of images at once")
    parser.add_argument(
        "--probabilities", action="store_true", help="beside a map of classes, the probability of each at every pixel"
    )
    options, overrides = parser.parse_known_args(argv)
    if options.calibration_images < 1:
        raise InputError("--calibration_images is a number from 1 up")
    if options.calibration is not None and options.precision != "int8":
        raise InputError(f"--calibration: {options.precision} files have nothing to learn; give --precision int8")
    names = NAMES if options.format == "all" else (options.format,)
    for target in map(find_format, () if options.format == "all" else names):  # find out before the weights are read
        output_path(options.output, options.weights, target, options.precision, of_all=False)
        if options.precision == "int8" and target.calibrated and options.calibration is None:
            raise InputError("int8 learns the ranges of activations from pictures; give --calibration FOLDER")
    cli = ConfigCLI(options.config, overrides)
    if (
        options.probabilities
        and "segment" not in cli.task.network.kind
        and cli.task.network.kind != "multitask network"
    ):
        raise InputError(f"--probabilities: a {cli.task.network.kind} gives none; leave it out")
    predictor = cli.predictor(options.weights, device="cpu")
    export = cli.task.export()  # only now, as it may state names that came with the weights
    calibration = None
    if options.calibration is not None:
        calibration = spread_pictures(options.calibration, options.calibration_images, predictor.prepare)
    images, source = comparison_images(options.images, calibration, cli.datamodule, predictor)

    def order_for(target: Format) -> Order:
        return Order(
            export,
            Form(target.nms if options.nms is None else options.nms, target.argmax, options.probabilities),
            predictor.class_names,
            options.precision,
            options.dynamic_batch,
            calibration,
            options.keep_float,
            checkpoint_metrics(Path(options.weights)),
        )

    failed, left_out = list[str](), list[str]()
    for name in names:
        try:
            target = find_format(name)
            order = order_for(target)
            reason = limit(target, order)
            if reason is not None and options.format == "all":
                left_out.append(name)
                print(f"{name}: left out: {reason}")
                continue
            path = output_path(options.output, options.weights, target, options.precision, options.format == "all")
            runs = write(target, order, export, path, images, options.weights, source)
            if runs and options.precision != "fp32":
                evaluate = ["mbdet", "evaluate", str(options.config), "--weights", str(path), *overrides]
                print(f"for its {cli.task.monitor}: {shlex.join(evaluate)}")
        except InputError as error:
            if options.format != "all":
                raise
            failed.append(name)
            print(f"{name}: {error}")
    if failed:
        raise InputError(f"{len(failed)} of {len(names)} formats could not be written: {', '.join(failed)}; see above")
    if len(left_out) == len(names):
        raise InputError("no format can do all that was asked for, so none was written; see above")


def write(
    target: Format,
    order: Order,
    export: Export[Any],
    path: Path,
    images: NDArray[np.uint8],
    weights: str,
    source: str,
) -> bool:
    """Write one verified file, say what was found in which images, and return whether it can be run here."""
    parity = write_verified(target, order, export, path, images)
    found = "could not be run here, so its numbers are unverified"
    if parity is not None:
        found = f"agrees with {weights} on {parity} in {len(images)} {source}"
    print(f"{path}: {file_bytes(path) / 1e6:.1f} MB; {found}")
    return parity is not None


def output_path(output: Path | None, weights: str, target: Format, precision: Precision, of_all: bool) -> Path:
    """Return the name of the file to write.

    Args:
        output: As the user gave it, if so.
        weights: Whose name it is made from otherwise.
        target: The format.
        precision: Part of a made name, unless it is the full one.
        of_all: Whether `output` lacks the suffix, because there is to be a file of each format.

    Raises:
        InputError: If the user's name has another suffix, or the weights would be overwritten.
    """
    source = Path(weights)
    if output is None:
        stem = source.name.removesuffix(source.suffix)
        path = source.with_name(f"{stem}{'' if precision == 'fp32' else f'_{precision}'}{target.suffix}")
    elif of_all:
        path = output.with_name(f"{output.name}{target.suffix}")
    elif not output.name.endswith(target.suffix) or output.name == target.suffix:
        raise InputError(f"{output}: an {target.name} file is called something{target.suffix}")
    else:
        path = output
    written = (*target.files(path), description_beside(path))
    if source.exists() and any(file.exists() and file.samefile(source) for file in written):
        raise InputError(f"{path}: would overwrite the weights {source}; give another name with --output")
    return path


def file_bytes(path: Path) -> int:
    """Return the bytes of a model file, which for some formats is a folder, or has a second file for the weights."""
    return int(read_description(path)["bytes"])


def spread_pictures(folder: Path, count: int, prepare: Prepare) -> NDArray[np.uint8]:
    """Return (B, 3, H, W) pictures of a folder, evenly spread over the order of their names.

    Args:
        folder: Of the pictures.
        count: How many at most.
        prepare: Brings one to the network's size.

    Raises:
        InputError: If there is no picture.
    """
    files = image_files(folder)
    chosen = np.linspace(0, len(files) - 1, min(count, len(files))).round().astype(int)
    return np.stack([prepare(read_image(files[index])) for index in chosen]).transpose(0, 3, 1, 2)


def comparison_images(
    folder: Path | None, calibration: NDArray[np.uint8] | None, data: Data, predictor: Predictor[Any]
) -> tuple[NDArray[np.uint8], str]:
    """Return (B, 3, H, W) pictures of a folder, or some of those to calibrate with, or of the data, or drawn scenes.

    Args:
        folder: The first of its pictures are taken.
        calibration: Those to calibrate with.
        data: Whose validation pictures are taken if they are there, and of the network's size.
        predictor: Brings pictures to the network's size.

    Returns:
        The pictures, and what they are.
    """
    if folder is not None:
        pictures = [predictor.prepare(read_image(path)) for path in image_files(folder)[:_COMPARED]]
        return np.stack(pictures).transpose(0, 3, 1, 2), f"pictures of {folder}"
    if calibration is not None:
        return calibration[:: max(1, len(calibration) // _COMPARED)][:_COMPARED], "calibration pictures"
    size = tuple(predictor.input_size)
    if tuple(data.input_size) == size:
        try:
            data.setup("validate")
            return validation_images(data), "validation pictures"
        except (InputError, OSError):  # they need not be on the machine that exports
            pass
    pictures = [predictor.prepare(draw_scene(0, 1, index, *size).image) for index in range(_COMPARED)]
    return np.stack(pictures).transpose(0, 3, 1, 2), "drawn scenes; for others give --images FOLDER"


def validation_images(data: Data) -> NDArray[np.uint8]:
    """Return the first images (B, 3, H, W) of the validation data, after `setup`, of the network's input size.

    Raises:
        InputError: If none of them can be read.
    """
    dataset = data.val_dataset
    samples = (dataset[index] for index in range(min(_COMPARED, len(dataset))))
    images = [sample.image for sample in samples if sample is not None]
    if not images:
        raise InputError("none of the first pictures of the validation data can be read")
    return np.stack(images).transpose(0, 3, 1, 2)
