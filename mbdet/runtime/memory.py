"""How much memory a model file needs, as a program of its own: `python -m mbdet.runtime.memory FILE`."""

import gc
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np

from mbdet.errors import InputError
from mbdet.runtime.load import find_engine

_RUNS = 5


def main(path: Path) -> None:
    """Print by how many bytes the memory of this process grows at most by loading and running a file."""
    engine = find_engine(path)  # imported before the count begins
    gc.collect()
    before = _start()
    file = engine(path, "cpu", 1)
    image = np.zeros((1, 3, *file.input_size), np.uint8)
    for _ in range(_RUNS):
        file.run(image)
    print(_peak() - before)


def memory_of(path: Path) -> int:
    """Return the bytes that loading and running a file on one thread takes at most, beside its engine's own code.

    Args:
        path: The file.

    Raises:
        InputError: If that fails; it says why.
    """
    done = subprocess.run([sys.executable, "-m", __name__, str(path)], capture_output=True, text=True, check=False)
    last = next(iter(done.stdout.split()[-1:]), "")
    if done.returncode or not last.isdecimal():
        reason = next(iter(done.stderr.strip().splitlines()[-1:]), f"it stopped with {done.returncode}")
        reason = reason.rpartition(f"{InputError.__name__}: ")[2]
        raise InputError(f"{path}: its memory could not be measured: {reason}")
    return int(last)


def _start() -> int:
    """Return the bytes in use now, and let the peak begin from there.

    The imports may have used more for a moment; counted from their peak, a small file would seem to need nothing. Only
    Linux can forget a peak, and not in every container; elsewhere it is what there is to count from.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return _peak()
    return _kilobytes("VmRSS") * 1024


def _peak() -> int:
    """Return the most bytes that this process has used."""
    try:  # not ru_maxrss, in which Linux counts the process that started this one too
        return _kilobytes("VmHWM") * 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS


def _kilobytes(name: str) -> int:
    """Return what Linux says of this process under a name."""
    return int(Path("/proc/self/status").read_text().partition(f"{name}:")[2].split()[0])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
