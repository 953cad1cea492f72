"""Checkpoints that describe their own network."""

import enum
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentError, ArgumentParser

from mbdet.errors import InputError
from mbdet.models import MultiTask, Network
from mbdet.predictor import PREDICTORS, number_classes
from mbdet.runtime.predictor import Predictor
from mbdet.weights import load_weights
from mbdet.weights.files import read_checkpoint
from mbdet.weights.tf_checkpoint import is_tf_checkpoint

NAMES = ("class_names", "segment_names")  # of the options under which tasks and predictors take names of classes

_APART = (*NAMES, "device")  # of a predictor's arguments, those that do not come from the description


def checkpoint_names(path: Path) -> dict[str, tuple[str, ...]]:
    """Return the names of classes that a checkpoint of ours holds, by their option; none for any other file."""
    if path.suffix != ".ckpt" or is_tf_checkpoint(path):
        return {}
    content = read_checkpoint(path)
    return {option: tuple(cast(Sequence[str], content[option])) for option in NAMES if content.get(option)}


def checkpoint_metrics(path: Path) -> dict[str, float]:
    """Return what a checkpoint of ours scored when it was written, by the figures' names; nothing for any other."""
    if path.suffix != ".ckpt" or not path.is_file():
        return {}
    metrics = read_checkpoint(path).get("metrics")
    if not isinstance(metrics, Mapping):
        return {}
    return {str(name): float(value) for name, value in metrics.items() if isinstance(value, int | float)}


def load_checkpoint(path: Path, device: str | None = None) -> Predictor[Any]:
    """Build the network that a checkpoint describes, load its weights and make it ready for use.

    Args:
        path: A checkpoint written by `tools/train.py`.
        device: Where to compute; by default the GPU if there is one.

    Raises:
        InputError: If it does not describe its network, names classes of a module that nobody imported, or has text
            where a class belongs: reading a file must not decide which code runs or which other files are read.
    """
    hyper_parameters = read_checkpoint(path).get("hyper_parameters")
    if not isinstance(hyper_parameters, Mapping) or not isinstance(hyper_parameters.get("network"), Mapping):
        raise InputError(f"{path}: does not describe its network; give its config too: CONFIG --weights {path}")
    taken = {name for _, kind in PREDICTORS for name in inspect.signature(kind).parameters}
    described = {name: value for name, value in hyper_parameters.items() if name in taken - set(_APART)}
    types = {name: hint for _, kind in PREDICTORS for name, hint in _hints(kind).items()} | {"network": Network}
    for name, value in described.items():
        _check_description(path, name, value, _leaves(types[name]))
    described = {name: _without_downloads(value) for name, value in described.items()}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--network", type=Network)
    try:
        network = parser.instantiate_classes(parser.parse_object({"network": described.pop("network")})).network
        make = next((kind for base, kind in PREDICTORS if isinstance(network, base)), None)
        if make is None:
            raise ValueError(f"nothing serves a {type(network).__name__}")
        # What else the predictor is made from, such as its decoding, is described beside the network.
        options = ArgumentParser(exit_on_error=False)
        options.add_class_arguments(make, skip={"network", *_APART}, instantiate=False)
        known = {name: value for name, value in described.items() if name in inspect.signature(make).parameters}
        built = options.instantiate_classes(options.parse_object(known))
    # What constructors raise of arguments that make no sense to them.
    except (ArgumentError, ValueError, TypeError, LookupError, RuntimeError) as error:
        raise InputError(f"{path}: its network cannot be built: {' '.join(str(error).split())}") from error
    load_weights(network, path)
    stored, arguments = checkpoint_names(path), inspect.signature(make).parameters
    options_of: dict[str, Any] = {
        option: stored.get(option) or number_classes(classes_of(network, option))
        for option in NAMES
        if option in arguments
    }
    return make(network, **options_of, device=device, **built.as_dict())


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
            "pretrained",
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


def _check_description(path: Path, option: str, value: object, leaves: Sequence[Any]) -> None:
    """Go through a description before the parser does, which takes text for a class, for YAML or for a file's name.

    Args:
        path: The checkpoint, for messages.
        option: Dotted name of the value, likewise.
        value: Classes as mappings with `class_path` and `init_args`, at any depth.
        leaves: The types that the value may have, without the containers around them.

    Raises:
        InputError: If a class is of a module that nobody imported, or text stands where the constructor wants another
            type than text.
    """
    if isinstance(value, str):
        if not _takes_text(leaves):
            raise InputError(
                f"{path}: its network cannot be built: {option} is text where its type has none: {value!r}"
            )
        if ":" in value:
            raise InputError(
                f"{path}: its network cannot be built: {option} is {value!r}, a place to read from (timm's hf-hub: and"
                " local-dir:); give its config too, if you trust it: CONFIG --weights FILE"
            )
    elif isinstance(value, Mapping) and "class_path" in value:
        kind = _trusted_class(path, option, value["class_path"])
        for name, inner in value.items():
            if name != "class_path":
                _check_description(path, option, inner, [kind])
    elif isinstance(value, Mapping):
        # The arguments of one of these classes, or a mapping of the constructor's own.
        hints = {name: hint for leaf in leaves if isinstance(leaf, type) for name, hint in _hints(leaf).items()}
        for name, inner in value.items():
            known = _leaves(hints[name]) if name in hints else leaves
            _check_description(path, f"{option}.{name}", inner, known)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check_description(path, option, inner, leaves)


def _trusted_class(path: Path, option: str, class_path: object) -> type:
    """Return the class of that name, provided that its module is ours or imported already."""
    module, _, name = str(class_path).rpartition(".")
    if not module.startswith("mbdet.") and module not in sys.modules:
        raise InputError(f"{path}: needs {class_path}; import {module or 'its module'} first if you trust it")
    try:
        kind = getattr(importlib.import_module(module), name, None)
    except ImportError:
        kind = None
    if not isinstance(kind, type):
        raise InputError(f"{path}: its network cannot be built: {option} is {class_path}, but there is no such class")
    return kind


def _hints(kind: type) -> dict[str, Any]:
    """Return the types of a constructor's arguments, with those of its bases, to which it may hand arguments on."""
    hints: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        try:
            hints |= get_type_hints(vars(base)["__init__"]) if "__init__" in vars(base) else {}
        except (NameError, TypeError):  # types that exist for type checkers alone: then no text is taken
            continue
    return hints


def _leaves(hint: Any) -> list[Any]:
    """Return the types that a type hint is made of: `Sequence[int] | Backbone` gives int and Backbone."""
    origin = get_origin(hint)
    if origin is None or origin in (Literal, Callable, type):
        return [hint]
    inner = get_args(hint)[:1] if origin is Annotated else get_args(hint)
    return [leaf for part in inner if part is not ... for leaf in _leaves(part)]


def _takes_text(leaves: Sequence[Any]) -> bool:
    """Tell whether text is one of the types, and all others are plain, so that the parser can make no class of it."""
    names = [leaf is str or get_origin(leaf) is Literal or _is_enum(leaf) for leaf in leaves]
    return any(names) and all(
        name or leaf in (int, float, bool, type(None)) for name, leaf in zip(names, leaves, strict=True)
    )


def _is_enum(leaf: Any) -> bool:
    return isinstance(leaf, type) and issubclass(leaf, enum.Enum)


def _without_downloads(value: object) -> Any:
    """Return a description whose `pretrained` are all false: the checkpoint has all weights itself."""
    if isinstance(value, Mapping):
        return {
            name: False if name == "pretrained" and inner is True else _without_downloads(inner)
            for name, inner in value.items()
        }
    return [_without_downloads(inner) for inner in value] if isinstance(value, list | tuple) else value


def classes_of(network: Network, option: str) -> int:
    """Return how many names an option of `NAMES` has."""
    if isinstance(network, MultiTask) and option == "segment_names":
        return network.segmenter.num_classes
    return network.num_classes
