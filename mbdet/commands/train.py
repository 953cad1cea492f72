"""Train a model from a config."""

import argparse
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger

from mbdet.checkpoint import check_same_network
from mbdet.commands import take_config
from mbdet.config import ConfigCLI
from mbdet.errors import InputError
from mbdet.report.gallery import draw_gallery
from mbdet.runtime.files import check_writable
from mbdet.tasks import History
from mbdet.weights.files import read_checkpoint

RUNS = Path("runs")


class TrainCLI(ConfigCLI):
    """A config with its trainer, whose files all lie in one run folder.

    Args:
        config: YAML file.
        overrides: Further options, as on the command line.
        run_dir: Where the run is written.
    """

    def __init__(self, config: Path, overrides: Sequence[str], run_dir: Path) -> None:
        self.run_dir = run_dir
        self.history = History(run_dir)
        super().__init__(config, overrides)

    def instantiate_trainer(self, **_: Any) -> pl.Trainer:
        """Add what every run has: checkpoints, history, TensorBoard, a progress bar."""
        # Both at the very end of the epoch, so that they hold the epoch's row of the history. Two, because one that
        # watches a figure writes its `last` only when the figure rises.
        folder, monitor = self.run_dir / "checkpoints", self.task.monitor
        self.best = ModelCheckpoint(
            folder, "best", monitor=monitor, mode="max", enable_version_counter=False, save_on_train_epoch_end=True
        )
        self.last = ModelCheckpoint(folder, "last", enable_version_counter=False, save_on_train_epoch_end=True)
        options = self.config_init["trainer"].as_dict()
        given = options.pop("callbacks") or []
        callbacks = [*(given if isinstance(given, list) else [given]), self.history, self.best, self.last]
        if options["enable_progress_bar"] is not False:
            callbacks.append(RichProgressBar())
        if options["logger"] in (None, True):
            options["logger"] = TensorBoardLogger(self.run_dir, name="", version="tensorboard")
            callbacks.append(LearningRateMonitor())
        if options["log_every_n_steps"] is None:
            options["log_every_n_steps"] = 10
        if options["enable_model_summary"] is None:
            options["enable_model_summary"] = False  # its two rows and its count of FLOPs say nothing true or new
        options["default_root_dir"] = self.run_dir
        return pl.Trainer(**options, callbacks=callbacks)

    def save_config(self) -> None:
        """Write the config with all overrides into the run folder."""
        file = self.run_dir / "config.yaml"
        check_writable(file)
        self.parser.save(self.config, file, overwrite=True, skip_none=False, multifile=False)

    def seed_anew(self, epoch: int) -> None:
        """Seed a resumed training by its epoch too: with the seed alone it would see its first epoch's order again.

        Args:
            epoch: How many epochs have been trained.
        """
        seed = self.config["seed_everything"]
        if seed is not False:  # a drawn one is a number by now
            (mixed,) = np.random.SeedSequence([seed, epoch]).generate_state(1)
            pl.seed_everything(int(mixed), workers=True, verbose=False)


def main(argv: Sequence[str]) -> None:
    """Train, then say where everything is."""
    parser = argparse.ArgumentParser(
        "mbdet train",
        usage="mbdet train CONFIG [--run_dir DIR] [--resume] [--any.value VALUE ...]",
        description="Train a model from a config. Any value can be overridden: --trainer.max_epochs 3,"
        " --data.root DIR, --model.network.backbone.width_mult 0.5.",
        epilog="--print_config shows the config with all defaults and overrides; CONFIG --help lists every option.",
        add_help=False,
    )
    parser.add_argument("--run_dir", type=Path, help="where to write the run (default: runs/ and the config's name)")
    parser.add_argument("--resume", action="store_true", help="go on with the newest run of this config")
    parser.add_argument("-h", "--help", action="store_true", help="show this and exit")
    config, rest = take_config(argv)
    options, overrides = parser.parse_known_args(rest)
    if config is None:
        parser.print_help()
        if options.help:
            return
        raise InputError("train needs a config, a file that ends in .yaml: mbdet train CONFIG")
    if options.help:
        overrides.append("--help")

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # no advertisements
    run_dir = choose_run_dir(options.run_dir or RUNS / config.stem, options.resume)
    cli = TrainCLI(config, overrides, run_dir)
    checkpoint = run_dir / "checkpoints" / "last.ckpt" if options.resume else None
    if checkpoint is not None:
        check_same_network(checkpoint, cli.network_description)
        cli.seed_anew(cast(int, read_checkpoint(checkpoint)["epoch"]) + 1)
    if cli.trainer.is_global_zero:
        cli.save_config()
    # Faster on GPUs that have TensorFloat-32, and far more exact than the half precisions.
    torch.set_float32_matmul_precision("high")
    for internal in ("`isinstance", "Checkpoint directory", "The number of training", "`ModelCheckpoint.monitor"):
        warnings.filterwarnings("ignore", f"{internal}.*")  # Lightning's own affairs, or intended
    cli.trainer.fit(
        cli.model,
        datamodule=cli.datamodule,
        ckpt_path=checkpoint,
        weights_only=True,
    )
    if cli.trainer.is_global_zero:
        report(cli)


def choose_run_dir(base: Path, resume: bool) -> Path:
    """Return the run folder: a new one, numbered if need be, or the newest one to resume.

    Raises:
        InputError: If there is none to resume.
    """
    existing = [base] if base.exists() else []
    while (following := base.with_name(f"{base.name}-{len(existing) + 1}")).exists():
        existing.append(following)
    if not resume:
        return following if existing else base
    if not existing:
        raise InputError(f"{base}: no run to resume; start one without --resume")
    if not (existing[-1] / "checkpoints" / "last.ckpt").exists():
        raise InputError(f"{existing[-1]}: stopped before its first checkpoint; start again without --resume")
    return existing[-1]


def report(cli: TrainCLI) -> None:
    """Say where everything is and draw predictions of the best checkpoint, if they can be drawn."""
    last = cli.run_dir / "checkpoints" / "last.ckpt"
    best = last.with_name("best.ckpt")
    if not last.is_file():
        print(f"No checkpoint was written; the run is in {cli.run_dir}")
        return
    best = best if best.is_file() else last  # without a validation none is best
    score = cli.best.best_model_score
    for name, path in (
        ("best checkpoint" if score is None else f"best checkpoint ({cli.task.monitor} {score:.3f})", best),
        ("last checkpoint", last),
        ("metrics table", cli.history.table),
        ("training curves", cli.run_dir / "curves.png"),
        ("config of this run", cli.run_dir / "config.yaml"),
    ):
        print(f"{name:26}  {path}")
    picture = cli.run_dir / "predictions.jpg"
    try:
        draw_gallery(cli.predictor(best), cli.datamodule.val_dataset, cli.task.draw, picture)
    except InputError as error:
        print(f"{'no picture of predictions':26}  {error}")
    else:
        print(f"{'picture of predictions':26}  {picture}")
