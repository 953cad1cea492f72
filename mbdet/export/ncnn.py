"""ncnn files, for phones and small boards: the layers as a text, and beside it their weights."""

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch

from mbdet.errors import InputError
from mbdet.export.converting import converting
from mbdet.export.format import Format, Order

try:
    import ncnn
    import pnnx

    from mbdet.runtime.ncnn import NcnnFile, weights_beside
except ImportError as error:
    raise InputError(f"the ncnn export needs {error.name}: pip install 'mbdet[ncnn]'") from error


class NcnnFormat(Format):
    """ncnn: `NAME.ncnn.param` with the layers and `NAME.ncnn.bin` with the weights, by way of pnnx.

    The blob `in0` takes one image as float32 in [0, 255], and `out0`, `out1`, ... are the outputs. In half precision
    the weights are stored as such, and where the CPU has such arithmetic, ncnn computes everything in it. That includes
    the decoding of boxes, whose corners it rounds to a quarter of a pixel on an input of 300.
    """

    name = "ncnn"
    suffix = ".ncnn.param"
    libraries = ("ncnn", "pnnx")
    precisions = ("fp32", "fp16")
    argmax = False

    def write(self, order: Order, path: Path) -> dict[str, Any]:
        """See `Format.write`."""
        with tempfile.TemporaryDirectory() as folder:
            layers = convert(order, Path(folder))
            check_layers(layers)
            shutil.copyfile(layers, path)
            shutil.copyfile(weights_beside(layers), weights_beside(path))
        own = {"name": "in0", "layout": "CHW", "dtype": "float32"}
        blobs = {name: f"out{index}" for index, name in enumerate(order.outputs)}
        types = {
            name: {**of, "shape": of["shape"][1:]} for name, of in order.output_types.items()
        }  # it knows no batches
        return {"input": {**order.describe()["input"], **own}, "blobs": blobs, "output_types": types}

    def files(self, path: Path) -> tuple[Path, ...]:
        """See `Format.files`."""
        return path, weights_beside(path)

    def open(self, path: Path) -> NcnnFile:
        """See `Format.open`."""
        return NcnnFile(path, "cpu")


def convert(order: Order, folder: Path) -> Path:
    """Write the network and what follows it as layers of ncnn, or of pnnx where ncnn has none.

    Args:
        order: What to write.
        folder: Gets the files, and others that pnnx writes beside them.

    Returns:
        The file of the layers.

    Raises:
        InputError: If pnnx does not understand the network.
    """
    traced, layers = folder / "model.pt", folder / "model.ncnn.param"
    example = order.example(torch.float32).to(next(order.export.parameters()).device)
    with converting("ncnn"), torch.no_grad():
        program = torch.jit.trace(order.module, (example,), check_trace=False)  # type: ignore[no-untyped-call]  # torch's
        program.save(traced)
    # The program itself: the package's function lets it write pages to the console.
    command = [pnnx.EXEC_PATH, str(traced), f"fp16={int(order.precision == 'fp16')}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0 or not layers.is_file():
        last = (done.stdout + done.stderr).strip().rpartition("\n")[2] or "no message"
        raise InputError(f"pnnx cannot convert the network to ncnn ({last}); export it to another format")
    return layers


def check_layers(path: Path) -> None:
    """Refuse what ncnn has no layer for.

    Args:
        path: File of the layers: two lines of numbers, then a line for each, which begins with kind and name.

    Raises:
        InputError: If there is such a thing; it names all.
    """
    layers = [line.split()[:2] for line in path.read_text().splitlines()[2:]]
    unknown = [f"{kind} ({name})" for kind, name in layers if ncnn.layer_to_index(kind) < 0]
    if unknown:
        raise InputError(
            f"ncnn has no layer for {', '.join(unknown)}; export to another format, or leave it out of the network"
        )
