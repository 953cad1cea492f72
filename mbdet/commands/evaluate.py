"""Score a model, or a file of results, on a data set."""

import argparse
import json
import warnings
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import track

from mbdet.commands import take_config
from mbdet.commands.evaluate_file import evaluate_file
from mbdet.errors import InputError
from mbdet.metrics.base import Evaluator, Metrics
from mbdet.metrics.coco import evaluate_results, write_results
from mbdet.report.tables import class_table, metrics_table
from mbdet.runtime.files import check_writable, write_atomically
from mbdet.runtime.load import is_model_file, load_file
from mbdet.runtime.predictor import Predictor

if TYPE_CHECKING:
    from mbdet.config import ConfigCLI


def main(argv: Sequence[str]) -> None:
    """Print the figures and a table by class, and write them if asked to."""
    parser = argparse.ArgumentParser(
        "mbdet evaluate",
        description="Score a model on the validation data of a config (mbdet evaluate CONFIG --weights FILE); an"
        " exported detector without PyTorch (mbdet evaluate --weights FILE --annotations FILE --images FOLDER); or a"
        " COCO results file (mbdet evaluate --annotations FILE --results FILE).",
        epilog="Any value of the config can be overridden: --data.root DIR, --data.batch_size 8.",
        allow_abbrev=False,
    )
    parser.add_argument("--weights", help="checkpoint, safetensors, published npz or name, or exported file")
    parser.add_argument("--annotations", type=Path, help="COCO instances file with the ground truth")
    parser.add_argument("--images", type=Path, help="folder with the pictures that --annotations names")
    parser.add_argument("--results", type=Path, help="COCO results file to score")
    parser.add_argument("--json", type=Path, help="write the figures here, and what was found in each image beside")
    parser.add_argument("--device", help="cpu, cuda, ... (default: the GPU if there is one)")
    config, rest = take_config(argv)
    options, overrides = parser.parse_known_args(rest)

    if overrides and not config:
        raise InputError(f"evaluate takes no {overrides[0]} without a config")
    given = {name for name in ("weights", "annotations", "images", "results") if getattr(options, name)}
    if given == {"annotations", "results"} and not config:
        show(evaluate_results(options.annotations, options.results), {}, options.json)
    elif given == {"weights", "annotations", "images"} and not config:
        if options.json is not None:
            check_writable(options.json)
        evaluator = evaluate_file(Path(options.weights), options.annotations, options.images, options.device)
        finish(evaluator, len(evaluator.collected), options.json)
    elif given == {"weights"} and config:
        evaluate_model(config, overrides, options.weights, options.json, options.device)
    else:
        raise InputError(
            "evaluate needs CONFIG --weights FILE, or --weights FILE --annotations FILE --images FOLDER, or"
            " --annotations FILE --results FILE"
        )


def evaluate_model(
    config: Path, overrides: Sequence[str], weights: str, output: Path | None, device: str | None
) -> None:
    """Score a checkpoint or an exported file with the same code on the same data."""
    from mbdet.config import ConfigCLI  # torch and Lightning, which a results file does not need

    cli = ConfigCLI(config, overrides)
    cli.datamodule.prepare_data()
    cli.datamodule.setup("validate")
    if output is not None:
        check_writable(output)
    evaluator, scored = collect(cli, open_predictor(cli, config, weights, device))
    finish(evaluator, scored, output)


def finish(evaluator: Evaluator[Any], scored: int, output: Path | None) -> None:
    """Show the figures, and write what was found beside them.

    Args:
        evaluator: What was collected.
        scored: From how many images.
        output: The file for the figures, if any.
    """
    # What the ground truth lists and on_error=skip left out is in none of the figures.
    show(evaluator.compute(), {"images": scored, "images_left_out": evaluator.listed - scored}, output)
    if output is not None:
        for name, records in evaluator.records().items():
            results = output.with_name(f"{output.stem}_{name}.json")
            write_results(results, records)
            print(f"{name}: {results}")


def open_predictor(cli: "ConfigCLI", config: Path, weights: str, device: str | None) -> Predictor[Any]:
    """Make a checkpoint or an exported file ready for the data of a config.

    Args:
        cli: The config, its data module set up.
        config: Its name, for messages.
        weights: The checkpoint or file.
        device: Where to compute.

    Raises:
        InputError: If it is not for this task, these classes, or images of this preparation.
    """
    if not is_model_file(weights):
        cli.task.check_data(cli.datamodule)
        return cli.predictor(weights, device)
    predictor = load_file(Path(weights), device)
    if predictor.kind != cli.task.network.kind:
        raise InputError(f"{weights}: is a {predictor.kind}, but {config} describes a {cli.task.network.kind}")
    cli.task.check_predictor(predictor, cli.datamodule)
    for name, value in predictor.preparation.items():
        other = getattr(cli.datamodule, name)
        other = tuple(other) if isinstance(other, list) else other
        if value != other:
            raise InputError(
                f"{weights}: takes images with {name} {value}, but data.{name} is {other}; give both the same"
            )
    return predictor


def collect(cli: "ConfigCLI", predictor: Predictor[Any]) -> tuple[Evaluator[Any], int]:
    """Predict for every image of the validation data.

    Args:
        cli: The config, its data module set up.
        predictor: See `open_predictor`.

    Returns:
        The evaluation, which has yet to be computed, and the number of images that were scored.
    """
    evaluator: Evaluator[Any] = cli.datamodule.evaluator()
    warnings.filterwarnings("ignore", "`isinstance")  # Lightning's own affair
    scored = 0
    loader = cli.datamodule.val_dataloader()
    loaders = getattr(loader, "flattened", [loader])  # of two sets, one after the other
    batches, count = chain.from_iterable(loaders), sum(map(len, loaders))
    for batch in track(batches, "Evaluating", count, console=Console(stderr=True), transient=True):
        if not len(batch.images):
            continue
        scored += len(batch.images)
        found = predictor.predict(batch.images.numpy(), batch.sizes.numpy())
        for image_id, evidence in zip(batch.image_ids.tolist(), cli.task.evidence(batch, found), strict=True):
            evaluator.update(image_id, evidence)
    return evaluator, scored


def show(metrics: Metrics, counts: Mapping[str, int], output: Path | None) -> None:
    """Print the tables and write the figures.

    Args:
        metrics: The figures.
        counts: What they were taken from, by name.
        output: The file to write, if any.
    """
    console = Console()
    console.print(metrics_table(metrics), class_table(metrics, "name"))
    if counts:
        print(", ".join(f"{name}: {count}" for name, count in counts.items()))
    if output is not None:
        with write_atomically(output) as temporary:
            temporary.write_text(json.dumps({**metrics.to_json(), **counts}, indent=2) + "\n")
        print(f"figures: {output}")
