"""Configs: YAML files that name classes and their arguments.

LightningCLI (jsonargparse) does the work, in subclass mode: what a constructor takes is what a YAML can say.
"""

import difflib
import importlib
import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
from jsonargparse import ArgumentError
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

import mbdet.data  # noqa: F401 -- Lightning offers only data modules that are imported
from mbdet.checkpoint import check_same_network, checkpoint_names
from mbdet.errors import InputError
from mbdet.runtime.predictor import Predictor
from mbdet.tasks import Task
from mbdet.weights import load_weights


class ConfigCLI(LightningCLI):
    """Reads a config with its overrides and builds the task and the data module.

    Args:
        config: YAML file.
        overrides: Further options such as `--data.root DIR`, as on the command line.

    Raises:
        InputError: If the file is missing, or a key or value does not fit its constructor.
    """

    def __init__(self, config: Path, overrides: Sequence[str] = ()) -> None:
        if not config.is_file():
            raise InputError(f"{config}: no such config; the shipped ones are in configs/")
        self.path = config
        super().__init__(
            pl.LightningModule,
            pl.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            seed_everything_default=0,
            save_config_callback=None,
            parser_kwargs={"exit_on_error": False, "prog": "mbdet COMMAND CONFIG"},
            args=["--config", str(config), *overrides],
            run=False,
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Turn the parser's complaint into one line, and take `args` without Lightning's warning about `sys.argv`."""
        try:
            self.config = parser.parse_args(cast(list[str], args))
        except ArgumentError as error:
            raise InputError(f"{self.path}: {explain(str(error))}") from error

    def instantiate_classes(self) -> None:
        """Let a constructor's complaint through as it is, without the parser's list of types around it."""
        try:
            super().instantiate_classes()
        except ValueError as error:
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            raise InputError(f"{self.path}: {' '.join(str(cause).split())}") from error

    def instantiate_trainer(self, **_: Any) -> pl.Trainer:
        """Leave the trainer to those who train."""
        return cast(pl.Trainer, None)

    @property
    def task(self) -> Task:
        """The task.

        Raises:
            InputError: If the config describes something else.
        """
        if not isinstance(self.model, Task):
            raise InputError(f"{self.path}: model is a {type(self.model).__name__}, not a task of mbdet.tasks")
        return self.model

    @property
    def network_description(self) -> dict[str, object]:
        """Class path and arguments of the network."""
        return cast(dict[str, object], self.config["model"]["init_args"]["network"].as_dict())

    def predictor(self, weights: str | Path, device: str | None = None) -> Predictor[Any]:
        """Load weights into the config's network and make it ready for use.

        Args:
            weights: A file or a published name.
            device: Where to compute; by default the GPU if there is one.

        Raises:
            InputError: If the weights do not fit.
        """
        if Path(weights).suffix == ".ckpt":
            check_same_network(Path(weights), self.network_description)
        load_weights(self.task.network, weights)
        for option, names in checkpoint_names(Path(weights)).items():
            if hasattr(self.task, option) and getattr(self.task, option) is None:
                setattr(self.task, option, names)
        return self.task.predictor(device)


def explain(complaint: str) -> str:
    """Say in one line what the parser says in many: it lists every type that a value could have had, and why not."""
    classes = re.findall(r"given class_path '([\w.]+)'", complaint)
    option = re.search(r"Option '([\w.]+)' is not accepted", complaint)
    if not (classes and option):
        # The last class named is the innermost; that the model could also have been None helps nobody.
        cause = " ".join(complaint.split()).split(" - Expected a <class 'NoneType'>")[0]
        return cause.rpartition("Problem with given class_path ")[2]
    module, _, name = classes[-1].rpartition(".")
    known = list(inspect.signature(getattr(importlib.import_module(module), name)).parameters)
    close = difflib.get_close_matches(option[1], known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"it takes {', '.join(known)}"
    return f"{name} has no option {option[1]!r}; {hint}"
