"""Export a network to every format, score and time the files side by side."""

import argparse
import itertools
import json
import platform
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

import mbdet
from mbdet.checkpoint import NAMES as NAMES_OF_CLASSES
from mbdet.checkpoint import checkpoint_metrics
from mbdet.commands.evaluate import collect, open_predictor
from mbdet.commands.export import comparison_images, spread_pictures, validation_images
from mbdet.config import ConfigCLI
from mbdet.errors import InputError
from mbdet.export.base import Form, Precision
from mbdet.export.format import Order, write_verified
from mbdet.export.formats import NAMES, find_format
from mbdet.export.origin import note_origin, origin_of, why_not_reusable
from mbdet.report.formats import Row, formats_table, plot_formats, to_json
from mbdet.runtime.files import write_atomically
from mbdet.runtime.load import load_file
from mbdet.runtime.memory import memory_of
from mbdet.runtime.model_file import read_description
from mbdet.runtime.predictor import Predictor
from mbdet.runtime.timing import in_turns


def main(argv: Sequence[str]) -> None:
    """Write the files, a table, a picture and all figures into one folder."""
    parser = argparse.ArgumentParser(
        "mbdet benchmark formats",
        description="Export a network to every format in every precision, score each file on the validation data of its"
        " config, and time all of them in turns, from an image of the network's input size to what it found.",
        epilog="Any value of the config can be overridden: --data.root DIR.",
        allow_abbrev=False,
    )
    parser.add_argument("config", type=Path, help="a YAML file, see configs/")
    parser.add_argument("--weights", required=True, help="checkpoint, safetensors, or published npz or name")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="where files and figures go")
    parser.add_argument("--formats", nargs="+", choices=NAMES, default=NAMES, help="by default all")
    parser.add_argument("--precisions", nargs="+", choices=get_args(Precision), default=get_args(Precision))
    parser.add_argument(
        "--calibration", type=Path, metavar="FOLDER", help="pictures to calibrate int8 on, which needs them"
    )
    parser.add_argument("--calibration_images", type=int, default=128, help="how many (default: %(default)s)")
    parser.add_argument(
        "--keep_float", nargs="+", default=[], metavar="LAYER", help="layers that int8 leaves as they are"
    )
    parser.add_argument(
        "--images", type=Path, help="pictures to verify on (default: of --calibration, or of the validation data)"
    )
    parser.add_argument(
        "--reuse", action="store_true", help="take the files that an earlier run made from the same, as after a crash"
    )
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="by default 1 and 2")
    parser.add_argument("--rounds", type=int, default=50, help="how often each is timed (default: %(default)s)")
    options, overrides = parser.parse_known_args(argv)
    if min(options.rounds, options.calibration_images, *options.threads) < 1:
        raise InputError("benchmark formats: --rounds, --threads and --calibration_images are numbers from 1 up")
    if "int8" in options.precisions and options.calibration is None:
        raise InputError("int8 learns ranges from pictures: give --calibration FOLDER, or --precisions fp32 fp16")

    cli = ConfigCLI(options.config, overrides)
    cli.datamodule.prepare_data()
    cli.datamodule.setup("validate")
    for option in NAMES_OF_CLASSES:  # weights without names have those of the data, and so have their files
        if getattr(cli.task, option, ()) is None:
            setattr(cli.task, option, tuple(getattr(cli.datamodule, option)))
    checkpoint = open_predictor(cli, options.config, options.weights, "cpu")
    console = Console(width=None if Console().is_terminal else 120, highlight=False, markup=False)
    files = write_files(cli, checkpoint, options, console)

    monitor = cli.task.monitor
    size = sum(tensor.nbytes for tensor in cli.task.network.state_dict().values())
    rows = [Row("PyTorch", "fp32", _score(cli, checkpoint), {}, size, None, None, "", None)]
    for (name, precision), path in files.items():
        description = read_description(path)
        found = _score(cli, open_predictor(cli, options.config, str(path), "cpu"))
        parity, undelegated = description["parity"], description.get("undelegated")
        try:
            memory = memory_of(path)
        except (InputError, OSError) as error:  # a figure less, which is not worth the others
            memory = None
            console.print(str(error))
        compared = parity["share"], parity["agrees_on"]
        rows.append(Row(name, precision, found, {}, description["bytes"], memory, *compared, undelegated))
        console.print(f"{path.name}: {monitor} {found:.4f}")
    pictures = validation_images(cli.datamodule)
    for threads in options.threads:
        torch.set_num_threads(threads)
        predictors = [checkpoint, *(load_file(path, "cpu", threads) for path in files.values())]
        runs: list[Callable[[int], object]] = [partial(_predict, predictor, pictures) for predictor in predictors]
        for row, seconds in zip(rows, in_turns(runs, options.rounds), strict=True):
            row.seconds[threads] = seconds.tolist()
        del predictors, runs  # open ExecuTorch files forbid another number of threads

    table = formats_table(rows, monitor)
    console.print(table)
    content = {
        "mbdet_version": mbdet.__version__,
        "config": options.config.stem,
        "weights": Path(options.weights).name,
        "overrides": overrides,
        "calibration": None if options.calibration is None else options.calibration.name,
        "calibration_images": options.calibration_images,
        "keep_float": options.keep_float,
        "images": None if options.images is None else options.images.name,
        "monitor": monitor,
        "rounds": options.rounds,
        "machine": {"processor": _processor(), "system": platform.platform(), "torch": torch.__version__},
        "rows": to_json(rows),
    }
    with write_atomically(options.output / "formats.json") as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")
    with write_atomically(options.output / "formats.txt") as temporary, temporary.open("w") as text:
        Console(file=text, width=120).print(table)
    plot_formats(rows, monitor, options.config.stem, options.output / "formats.png")
    print(f"table, figures and picture: {options.output}/formats.txt, .json, .png")


def write_files(
    cli: ConfigCLI, checkpoint: Predictor[Any], options: argparse.Namespace, console: Console
) -> dict[tuple[str, Precision], Path]:
    """Write the verified files, and say of each what was found, or why it is left out.

    Args:
        cli: The config, with the weights loaded.
        checkpoint: They, ready for use.
        options: Those of the command.
        console: Where to say it.

    Returns:
        Those that can be run here, by the name of their format and precision.

    Raises:
        InputError: If there are none.
    """
    export = cli.task.export()
    metrics = checkpoint_metrics(Path(options.weights))
    calibration = None
    if options.calibration is not None:
        calibration = spread_pictures(options.calibration, options.calibration_images, checkpoint.prepare)
    images, source = comparison_images(options.images, calibration, cli.datamodule, checkpoint)
    console.print(f"verified on {len(images)} {source}")
    names = checkpoint.class_names
    files: dict[tuple[str, Precision], Path] = {}
    for name, precision in itertools.product(options.formats, options.precisions):
        try:
            target = find_format(name)
            if precision not in target.precisions:
                continue
            path = options.output / f"{options.config.stem}_{precision}{target.suffix}"
            form = Form(target.nms, target.argmax)
            keep_float = options.keep_float if precision == "int8" else ()
            order = Order(export, form, names, precision, False, calibration, keep_float, metrics)
            origin = origin_of(target, order, cli.config["model"].as_dict(), images)
            reason = why_not_reusable(path, origin) if options.reuse and path.exists() else ""
            if reason:
                console.print(f"{path.name}: is written anew, as {reason}")
            if reason is not None:
                write_verified(target, order, export, path, images)
                note_origin(path, origin)
        except InputError as error:
            console.print(f"{name} {precision}: left out: {error}")
            continue
        agrees = read_description(path)["parity"]
        console.print(f"{path.name}: {agrees['agrees_on'] if agrees else 'cannot be run here'}")
        if agrees:
            files[target.name, precision] = path
    if not files:
        raise InputError("there is no file to compare; see above")
    return files


def _score(cli: ConfigCLI, predictor: Predictor[Any]) -> float:
    """Return what the task monitors."""
    evaluator, _ = collect(cli, predictor)
    return float(getattr(evaluator.compute(), cli.task.monitor))


def _predict(predictor: Predictor[Any], pictures: NDArray[np.uint8], turn: int) -> object:
    index = turn % len(pictures)
    return predictor.predict(pictures[index : index + 1], np.array([predictor.input_size]))


def _processor() -> str:
    """Return the name of the processor, which Python knows on some systems only."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
