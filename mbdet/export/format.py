"""What every format of files has in common: what is to be written, who writes it, and that it is verified."""

import json
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import mbdet
from mbdet.errors import InputError
from mbdet.export.base import DifferenceError, Export, Form, Pair, Parity, Precision
from mbdet.runtime.files import naming
from mbdet.runtime.finish import MADE_FROM
from mbdet.runtime.model_file import ModelFile, description_beside

_BATCH = 2  # images compared at once: a segmenter's probabilities of many would fill the memory
_EVERYTHING = Form(probabilities=True)


@dataclass(frozen=True)
class Order:
    """What is to be written.

    Args:
        export: The network and what follows it, in evaluation mode.
        form: The outputs of the file.
        class_names: The K names, in the order of the labels.
        precision: What the network computes with; what follows it is always in single precision.
        dynamic_batch: Whether the file takes any number of images at once, and not one alone.
        calibration: (N, 3, H, W) uint8 RGB of the network's input size, to learn the ranges of activations from.
        float_layers: Names of layers of the network that int8 leaves as they are, each with all below it.
        metrics: What the weights scored when they were trained, if known.
    """

    export: Export[Any]
    form: Form
    class_names: Sequence[str]
    precision: Precision = "fp32"
    dynamic_batch: bool = False
    calibration: NDArray[np.uint8] | None = None
    float_layers: Sequence[str] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def module(self) -> nn.Module:
        """The network and what follows it, from images to a tuple of the outputs, whose names are `outputs`."""
        return _Positional(self.export, self.form).eval()

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs, in their order."""
        return tuple(self.export.outputs(self.form))

    @cached_property
    def output_types(self) -> dict[str, dict[str, Any]]:
        """The shape and the type of each output; the number of images is None where the file takes any."""
        images = self.example().to(next(self.export.parameters()).device)
        with torch.no_grad():
            found = self.export(images, self.form)
        batch = None if self.dynamic_batch else 1
        return {
            name: {"shape": [batch, *values.shape[1:]], "dtype": str(values.dtype).removeprefix("torch.")}
            for name, values in found.items()
        }

    def example(self, dtype: torch.dtype = torch.uint8, batch: int = 1) -> Tensor:
        """Return images (B, 3, H, W) to trace with; those to calibrate with, where there are any."""
        if self.calibration is not None:
            return torch.from_numpy(self.calibration[:batch]).to(dtype)
        return torch.zeros(batch, 3, *self.export.network.input_size, dtype=dtype)

    def describe(self) -> dict[str, Any]:
        """Return all that a user of the file must know, ready for JSON."""
        return {
            "mbdet_version": mbdet.__version__,
            "task": self.export.task,
            "class_names": list(self.class_names),
            **self.export.notes,
            "precision": self.precision,
            "metrics": dict(self.metrics),
            "input": {
                "name": "images",
                "batch": None if self.dynamic_batch else 1,
                "layout": "NCHW",
                "size": list(self.export.network.input_size),  # height, width
                "color": "RGB",
                "dtype": "uint8",
                **self.export.preparation,
                "interpolation": "bilinear, antialiased",
                "normalization": "inside",
            },
            "output": self.export.outputs(self.form),
            "output_types": self.output_types,
        }


class _Positional(nn.Module):
    """Exporters name outputs by their position, not by their key."""

    def __init__(self, export: Export[Any], form: Form) -> None:
        super().__init__()
        self.export = export
        self.form = form

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.export(images, self.form).values())


class Format(ABC):
    """A format of files.

    Attributes:
        name: As people write it.
        suffix: Of its files.
        libraries: The distributions that write its files.
        precisions: Those it can be written in.
        nms: Whether its runtimes have non-maximum suppression.
        argmax: Whether they can choose the class of a pixel.
        dynamic_batch: Whether a file may take any number of images.
        calibrated: Whether int8 learns the ranges of activations from images.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]
    libraries: ClassVar[tuple[str, ...]]
    precisions: ClassVar[tuple[Precision, ...]]
    nms: ClassVar[bool] = False
    argmax: ClassVar[bool] = True
    dynamic_batch: ClassVar[bool] = False
    calibrated: ClassVar[bool] = True

    @abstractmethod
    def write(self, order: Order, path: Path) -> dict[str, Any]:
        """Write a file.

        Args:
            order: What to write.
            path: The file, in an empty folder; whatever else belongs to it is written there too.

        Returns:
            What its description has beyond or in place of `order.describe()`.

        Raises:
            InputError: If the network does something that the format has no way to say.
        """

    def files(self, path: Path) -> tuple[Path, ...]:
        """Return all that a file of this name consists of, but for its description."""
        return (path,)

    @abstractmethod
    def open(self, path: Path) -> ModelFile | None:
        """Make a written file ready to be run on the CPU, for the comparison; None where there is no such runtime."""


def write_verified(
    target: Format, order: Order, export: Export[Parity], path: Path, images: NDArray[np.uint8]
) -> Parity | None:
    """Write a file, compare it with the network, and keep it only if both agree.

    Beside it stands its description with what the comparison found, as `FILE.json`.

    Args:
        target: The format.
        order: What to write.
        export: That of the order.
        path: The file. It appears, with what belongs to it, only when it has been verified.
        images: (B, 3, H, W) RGB to compare on, of the network's input size.

    Returns:
        The largest differences found; None where the format cannot be run here.

    Raises:
        InputError: If the file's results differ from the network's, or there is nothing to compare, see
            `Export.compare`; if they are not of the shapes and types that its description says; if it cannot be
            written.
    """
    check_order(target, order)
    export.eval()
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent)
    with folder:
        temporary = Path(folder.name) / path.name
        beside = description_beside(temporary)
        with naming(path):
            description = order.describe() | target.write(order, temporary)
            description["bytes"] = size_of(temporary.parent)
            beside.write_text(json.dumps(description, indent=2) + "\n")
        file = target.open(temporary)
        parity = None
        if file is not None:
            check_types(file, description["output_types"], images)
            try:
                parity = export.compare(pairs(export, file, images), order.precision)
            except DifferenceError as error:
                if error.output in order.outputs:
                    raise
                # What is compared is finished, and whoever looks into the file sees what it is made from.
                sources = [name for name in MADE_FROM[error.output] if name in order.outputs]
                raise DifferenceError(error.output, error.problem, sources) from None
        del file  # some engines hold on to it
        description["parity"] = None
        if parity is not None:
            description["parity"] = {"images": len(images), "share": parity.share, "agrees_on": str(parity)}
        with naming(path):
            beside.write_text(json.dumps(description, indent=2) + "\n")
            _move(temporary.parent, path)
    return parity


def check_types(file: ModelFile, stated: Mapping[str, Any], images: NDArray[np.uint8]) -> None:
    """Refuse a file whose own outputs are not of the shapes and types that its description says.

    Args:
        file: The file.
        stated: See `Order.output_types`; where files know no batches, without the axis of the image.
        images: (B, 3, H, W) RGB.

    Raises:
        InputError: At the first output that differs.
    """
    given = images[: file.batch or _BATCH]
    batch = [] if file.input["layout"] == "CHW" else [file.batch]
    found = file.compute(given)
    assert [*found] == [*stated]  # in the same order
    for name, values in found.items():
        assert len(values) == len(given)
        own = {"shape": [*batch, *values.shape[1:]], "dtype": str(values.dtype)}
        if own != stated[name]:
            raise DifferenceError(name, f"its shape and type are {own}, its description says {stated[name]}")


def limit(target: Format, order: Order) -> str | None:
    """Return what a format cannot do of an order, whatever else is given, and what to do about it; None if it can."""
    if order.precision not in target.precisions:
        return f"{target.name} files are written in {', '.join(target.precisions)}, not in {order.precision}"
    if order.form.nms and not target.nms:
        return f"the runtimes of {target.name} have no non-maximum suppression; leave --nms out"
    if order.dynamic_batch and not target.dynamic_batch:
        return f"{target.name} files take one image at a time; leave --dynamic_batch out"
    return None


def check_order(target: Format, order: Order) -> None:
    """Refuse what a format cannot do, see `limit`, and what an order lacks.

    Raises:
        InputError: If there is such a thing; it says what to do about it.
    """
    reason = limit(target, order)
    if reason is not None:
        raise InputError(reason)
    if order.precision == "int8" and target.calibrated and order.calibration is None:
        raise InputError("int8 learns the ranges of activations from pictures; give --calibration FOLDER")
    layers = {name for name, _ in order.export.network.named_modules()}
    unknown = [name for name in order.float_layers if name not in layers]
    if unknown:
        raise InputError(f"--keep_float {unknown[0]}: the network has no layer of this name, see `mbdet sensitivity`")


def is_kept(layer: str, float_layers: Sequence[str]) -> bool:
    """Tell whether a layer of the network is, or lies below, one that int8 leaves as it is."""
    return any(layer == name or layer.startswith(f"{name}.") for name in float_layers)


def size_of(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _move(source: Path, path: Path) -> None:
    """Put what a folder holds in the place of what is there under the same names.

    The old description goes first and the new one comes last, so that none ever stands beside another model.
    """
    beside = description_beside(path)
    beside.unlink(missing_ok=True)
    for entry in sorted(source.iterdir(), key=lambda entry: entry.name == beside.name):
        place = path.parent / entry.name
        if entry.is_dir() and place.is_dir():  # Core ML's packages are folders
            shutil.rmtree(place)
        entry.replace(place)


@torch.no_grad()
def pairs(export: Export[Any], file: ModelFile, images: NDArray[np.uint8]) -> Iterator[Pair]:
    """Yield what network and file give for each image, in small batches; where the file takes those, also one alone.

    Args:
        export: The network and what follows it, in evaluation mode.
        file: The file.
        images: (B, 3, H, W) RGB.
    """
    device = next(export.parameters()).device
    starts = range(0, len(images), _BATCH)
    alone = [(0, images[:1])] if file.batch is None else []
    for start, batch in [*((start, images[start : start + _BATCH]) for start in starts), *alone]:
        found = export(torch.from_numpy(batch).to(device), _EVERYTHING)
        expected = {name: values.cpu().numpy() for name, values in found.items()}
        actual = file.run(batch)
        for index in range(len(batch)):
            yield Pair(
                start + index,
                {name: values[index] for name, values in expected.items()},
                {name: values[index] for name, values in actual.items()},
            )
