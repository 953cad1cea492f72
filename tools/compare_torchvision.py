"""Train torchvision's reference on a data set, beside a model of ours; on the CPU.

The reference is what torchvision's own scripts in `references/` train, written after them: SSDLite where the config is
of detection, LR-ASPP where it is of segmentation. So that both sides start from the same weights, its backbone is
MobileNetV2 instead of V3. What else differs stands in `torchvision_reference/`.

    python tools/compare_torchvision.py train CONFIG --weights FILE --output FOLDER --data.root DIR
    python tools/compare_torchvision.py evaluate CONFIG --weights FILE --output FOLDER --data.root DIR
    python tools/compare_torchvision.py time CONFIG --weights FILE --data.root DIR

CONFIG is one of ours: it names the data, the batch, the workers and the epochs. `train` trains the reference on them
and scores it with mbdet's evaluator, `evaluate` does so on another split; `time` trains both for some epochs in turn,
each by its own command, and prints how long they take.
"""

import argparse
import csv
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning.pytorch as pl
import torch
from rich.progress import track

from mbdet.commands.evaluate import show
from mbdet.config import ConfigCLI
from mbdet.data.detection import DetectionDataModule
from mbdet.data.segmentation import SegmentationDataModule
from mbdet.errors import InputError
from torchvision_reference.base import Reference
from torchvision_reference.detection import DetectionReference
from torchvision_reference.segmentation import SegmentationReference


def build(cli: ConfigCLI, weights: str) -> Reference:
    """Return the reference for a config's data, seeded as the config says.

    Raises:
        InputError: If there is none for its task, or the data cannot be used.
    """
    pl.seed_everything(cli.config.seed_everything, verbose=False)
    data = cli.datamodule
    data.prepare_data()
    data.setup("fit")
    if isinstance(data, DetectionDataModule):
        return DetectionReference(data, weights)
    if isinstance(data, SegmentationDataModule):
        return SegmentationReference(data, weights)
    raise InputError(f"{cli.path}: has no reference; give a config of detection or segmentation")


def train(cli: ConfigCLI, weights: str, output: Path) -> None:
    """Train the reference for the config's epochs and write a row per epoch, scored where the config scores."""
    epochs = cli.config.trainer.max_epochs
    if epochs is None:
        raise InputError(f"{cli.path}: does not say for how many epochs; give --trainer.max_epochs")
    every = cli.config.trainer.check_val_every_n_epoch
    reference = build(cli, weights)
    output.mkdir(parents=True, exist_ok=True)
    started, rows, metrics = time.monotonic(), [], None
    for epoch, losses in enumerate(track(reference.train(epochs), "Training", total=epochs)):
        row: dict[str, Any] = {"epoch": epoch, "train_loss": f"{statistics.fmean(losses):.5g}"}
        if (epoch + 1) % every == 0 or epoch + 1 == epochs:
            metrics = reference.score()
            row |= {name: f"{getattr(metrics, name):.4f}" for name in reference.figures}
        rows.append(row | {"seconds": round(time.monotonic() - started, 1)})
        with (output / "metrics.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["epoch", "seconds", "train_loss", *reference.figures])
            writer.writeheader()
            writer.writerows(rows)
        torch.save(reference.model.state_dict(), output / "last.pth")
    if metrics is not None:
        print(f"torchvision's {reference.name} after {epochs} epochs, {rows[-1]['seconds']} s")
        show(metrics, {"images": len(reference.evaluator.collected)}, output / "figures.json")


def evaluate(cli: ConfigCLI, weights: str, output: Path) -> None:
    """Score the reference that `train` wrote on the config's validation split."""
    reference = build(cli, weights)
    reference.model.load_state_dict(torch.load(output / "last.pth", weights_only=True))
    show(reference.score(), {"images": len(reference.evaluator.collected)}, output / "figures.json")


def compare_times(config: Path, overrides: Sequence[str], weights: str, rounds: int, epochs: int) -> None:
    """Train both in turn, each by its own command, and print the seconds that their own tables state.

    Args:
        config: One of ours.
        overrides: Its overrides.
        weights: To start from.
        rounds: How often each is trained.
        epochs: For how long, with one validation at the end.
    """
    tools = Path(__file__).parent
    length = [f"--trainer.max_epochs={epochs}", f"--trainer.check_val_every_n_epoch={epochs}"]
    ours = [str(tools / "train.py"), str(config), f"--model.backbone_weights={weights}", "--trainer.accelerator=cpu"]
    ours += ["--trainer.enable_progress_bar=false", *overrides, *length]
    reference = [__file__, "train", str(config), "--weights", weights, *overrides, *length]
    seconds: dict[str, list[float]] = {"mbdet": [], "torchvision": []}
    for _ in track(range(rounds), "Timing"):
        for name, command, option in (("mbdet", ours, "--run_dir"), ("torchvision", reference, "--output")):
            with TemporaryDirectory() as folder:
                run = Path(folder) / "run"
                subprocess.run([sys.executable, *command, option, str(run)], check=True, capture_output=True)
                with (run / "metrics.csv").open() as file:
                    *_, row = csv.DictReader(file)
                seconds[name].append(float(row["seconds"]))
    for name, values in seconds.items():
        listed = ", ".join(f"{value:.1f}" for value in values)
        print(f"{name:12} {statistics.median(values):.1f} s for {epochs} epochs and a validation (median of {listed})")
    ratio = statistics.median(seconds["mbdet"]) / statistics.median(seconds["torchvision"])
    print(f"mbdet takes {ratio:.2f} of torchvision's time, with {torch.get_num_threads()} threads")


def main() -> int:
    """Run one of the three."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("action", choices=["train", "evaluate", "time"])
    parser.add_argument("config", type=Path, help="a config of ours; any value of it can be overridden")
    parser.add_argument("--weights", required=True, help="of MobileNetV2, to start from")
    parser.add_argument("--output", type=Path, default=Path("runs/torchvision"), help="folder of the reference's run")
    parser.add_argument("--rounds", type=int, default=3, help="how often `time` trains each (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=2, help="for how long (default: %(default)s)")
    options, overrides = parser.parse_known_args()
    try:
        if options.action == "time":
            compare_times(options.config, overrides, options.weights, options.rounds, options.epochs)
            return 0
        action = train if options.action == "train" else evaluate
        action(ConfigCLI(options.config, overrides), options.weights, options.output)
    except InputError as error:
        print(f"compare_torchvision: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
