"""Checkpoints that describe their own network."""

import inspect
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from jsonargparse import ArgumentError, ArgumentParser

from mbdet.errors import InputError
from mbdet.models import Network
from mbdet.predictor import PREDICTORS
from mbdet.runtime.predictor import Predictor
from mbdet.weights import load_weights
from mbdet.weights.files import read_checkpoint
from mbdet.weights.tf_checkpoint import is_tf_checkpoint


def checkpoint_class_names(path: Path) -> tuple[str, ...] | None:
    """Return the class names that a checkpoint of ours holds, or None for any other file."""
    if path.suffix != ".ckpt" or is_tf_checkpoint(path):
        return None
    return tuple(cast(Sequence[str], read_checkpoint(path).get("class_names", ()))) or None


def load_checkpoint(path: Path, device: str | None = None) -> Predictor[Any]:
    """Build the network that a checkpoint describes, load its weights and make it ready for use.

    Args:
        path: A checkpoint written by `tools/train.py`.
        device: Where to compute; by default the GPU if there is one.

    Raises:
        InputError: If it does not describe its network, or names classes of a module that nobody imported: reading a
            file must not decide which code runs.
    """
    hyper_parameters = read_checkpoint(path).get("hyper_parameters")
    if not isinstance(hyper_parameters, Mapping) or not isinstance(hyper_parameters.get("network"), Mapping):
        raise InputError(f"{path}: does not describe its network; give its config too: CONFIG --weights {path}")
    taken = {name for _, kind in PREDICTORS for name in inspect.signature(kind).parameters}
    described = {name: value for name, value in hyper_parameters.items() if name in taken - {"class_names", "device"}}
    for class_path in _class_paths(described):
        module = class_path.rpartition(".")[0]
        if not module.startswith("mbdet.") and module not in sys.modules:
            raise InputError(f"{path}: needs {class_path}; import {module} first if you trust it")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--network", type=Network)
    try:
        network = parser.instantiate_classes(parser.parse_object({"network": described.pop("network")})).network
        make = next((kind for base, kind in PREDICTORS if isinstance(network, base)), None)
        if make is None:
            raise ValueError(f"nothing serves a {type(network).__name__}")
        # What else the predictor is made from, such as its decoding, is described beside the network.
        options = ArgumentParser(exit_on_error=False)
        options.add_class_arguments(make, skip={"network", "class_names", "device"}, instantiate=False)
        known = {name: value for name, value in described.items() if name in inspect.signature(make).parameters}
        built = options.instantiate_classes(options.parse_object(known))
    except (ArgumentError, ValueError) as error:
        raise InputError(f"{path}: its network cannot be built: {' '.join(str(error).split())}") from error
    load_weights(network, path)
    return make(network, checkpoint_class_names(path) or (), device=device, **built.as_dict())


def check_same_network(path: Path, network: Mapping[str, object]) -> None:
    """Compare a network's description with that of a checkpoint: not every difference shows in the weights.

    Args:
        path: The checkpoint. If it describes no network, nothing is compared.
        network: Class path and arguments, as in a config.

    Raises:
        InputError: If an option that both name differs, such as the padding or the anchors.
    """
    if is_tf_checkpoint(path):
        return
    hyper_parameters = read_checkpoint(path).get("hyper_parameters")
    if not isinstance(hyper_parameters, Mapping):
        return
    ours, theirs = _flatten(network), _flatten(hyper_parameters.get("network", {}))
    for name in ours.keys() & theirs.keys():
        # What matters in training only, or travels with the weights.
        if ours[name] != theirs[name] and name.rpartition(".")[2] not in (
            "bn_momentum",
            "class_bias_init",
            "mean",
            "std",
        ):
            raise InputError(
                f"{path}: was made with {name} {theirs[name]}, the config says {ours[name]}; give the config of its run"
            )


def _flatten(value: object, prefix: str = "network") -> dict[str, object]:
    """Return nested options by their dotted names, without `init_args`, lists as tuples."""
    if isinstance(value, Mapping):
        parts = [
            _flatten(inner, prefix if name == "init_args" else f"{prefix}.{name}") for name, inner in value.items()
        ]
        return {name: inner for part in parts for name, inner in part.items()}
    return {prefix: tuple(value) if isinstance(value, list) else value}


def _class_paths(value: object) -> list[str]:
    """Return every string with a dot, at any depth: a class may also be named without `class_path`."""
    if isinstance(value, str):
        return [value] if "." in value else []
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [path for part in inner for path in _class_paths(part)]
