"""What a file was made from, so that it is taken again only while that is the same."""

import hashlib
import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import mbdet
from mbdet.errors import InputError
from mbdet.export.format import Format, Order
from mbdet.runtime.files import write_atomically
from mbdet.runtime.model_file import description_beside, read_description

_KEY = "made_from"


def origin_of(
    target: Format, order: Order, model: Mapping[str, object], images: NDArray[np.uint8]
) -> dict[str, object]:
    """Sum up what decides the content of a file.

    Args:
        target: The format.
        order: What is to be written.
        model: What the config says of the model, with all defaults and overrides: the weights do not tell strides.
        images: What the file is compared on, which its description tells of.

    Returns:
        Checksums and plain values, ready for JSON, under names for messages.
    """
    weights = hashlib.sha256()
    for name, tensor in order.export.network.state_dict().items():
        weights.update(name.encode() + tensor.cpu().numpy().tobytes())
    calibration = order.calibration if order.precision == "int8" else None
    return {
        "mbdet version": mbdet.__version__,
        **{f"version of {name}": _version(name) for name in ("torch", *target.libraries)},
        "model in the config": hashlib.sha256(json.dumps(model, default=str).encode()).hexdigest(),
        "weights": weights.hexdigest(),
        "class names": list(order.class_names),
        "precision": order.precision,
        "calibration pictures": None if calibration is None else hashlib.sha256(calibration.tobytes()).hexdigest(),
        "layers left in float": sorted(order.float_layers),
        "comparison pictures": hashlib.sha256(images.tobytes()).hexdigest(),
    }


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None  # another build in its place, such as onnxruntime-gpu, changes unnoticed


def note_origin(path: Path, origin: Mapping[str, object]) -> None:
    """Write into the description beside a file what it was made from.

    Args:
        path: The file; whatever writes another in its place writes another description too, without this.
        origin: See `origin_of`.

    Raises:
        InputError: If it cannot be written.
    """
    description = read_description(path) | {_KEY: origin}
    with write_atomically(description_beside(path)) as temporary:
        temporary.write_text(json.dumps(description, indent=2) + "\n")


def why_not_reusable(path: Path, origin: Mapping[str, object]) -> str | None:
    """Compare what a file was made from with what it would be made from now.

    Args:
        path: The file.
        origin: See `origin_of`.

    Returns:
        In a few words why the file must be written anew; None if it need not.
    """
    try:
        description = read_description(path)
    except InputError as error:
        return str(error)
    noted = description.get(_KEY)
    if not isinstance(noted, dict) or not {"parity", "bytes"} <= description.keys():
        return "its description does not say what it was made from"
    other = [name for name, value in origin.items() if noted.get(name) != value]
    return f"it was made with other {', '.join(other)}" if other else None
