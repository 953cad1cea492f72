"""ExecuTorch as engine of a model file."""

import json
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbdet.errors import InputError
from mbdet.runtime.model_file import ModelFile, Values, cannot_load
from mbdet.runtime.quiet import quiet

try:
    # Its Python binding takes tensors of PyTorch, and nothing else; on a phone it needs no PyTorch.
    import torch

    with quiet():
        from executorch.extension.pybindings.portable_lib import _threadpool_get_thread_count, _unsafe_reset_threadpool
        from executorch.runtime import Runtime
except ImportError as error:
    raise InputError(
        f"running an ExecuTorch file in Python needs {error.name}: pip install 'mbdet[executorch]'"
    ) from error

DESCRIPTION = "description"  # the method of a file that returns its description, as JSON


class ExecuTorchFile(ModelFile):
    """An ExecuTorch file; its description is within it.

    All the files that are open in a process share ExecuTorch's threads, so that they compute with the same number.

    Args:
        path: The file.
        device: `cpu`, the only one there is here.
        threads: CPU threads of the process, from now on; by default those of the last file that was given a number,
            or as many as ExecuTorch thinks best.

    Raises:
        InputError: If the file is missing, damaged, or was not exported by mbdet; if there is no such device; or if
            `threads` is not what other open files compute with.
    """

    def __init__(self, path: Path, device: str | None = None, threads: int | None = None) -> None:
        if device not in (None, "cpu"):
            raise InputError(f"device {device!r}: an ExecuTorch file runs on cpu here")
        if not path.is_file():
            raise InputError(f"{path}: no such model file")
        if threads is not None:
            _set_threads(path, threads)
        with quiet():  # it lists what it looks up about the processor
            try:
                self._program = Runtime.get().load_program(path)
                description = _description(self._program)
                self._method = self._program.load_method("forward") if description else None
            except (RuntimeError, KeyError) as error:  # also the method that the file does not have
                raise cannot_load(path, "ExecuTorch", error) from error
        super().__init__(path, description)
        self._outputs = tuple(self.description["output"])
        _open.add(self)

    def compute(self, images: NDArray[np.uint8]) -> Values:
        """See `ModelFile.compute`."""
        assert self._method is not None
        found = self._method.execute([torch.from_numpy(np.ascontiguousarray(images))])
        return {name: values.numpy() for name, values in zip(self._outputs, found, strict=True)}


# What has been opened: it still uses the threads that it was opened with.
_open: weakref.WeakSet[ExecuTorchFile] = weakref.WeakSet()


def _set_threads(path: Path, threads: int) -> None:
    """Let the process compute with another number of threads, unless open files would lose those that they use."""
    current = _threadpool_get_thread_count()
    if threads == current:
        return
    if len(_open):
        raise InputError(
            f"{path}: cannot compute with {threads} threads while another ExecuTorch file of this process is open with"
            f" {current}; give the same number to all"
        )
    _unsafe_reset_threadpool(threads)


def _description(program: Any) -> dict[str, Any]:
    """Return the description within a file; of one that is not mbdet's, nothing."""
    if DESCRIPTION not in program.method_names:
        return {}
    (text,) = program.load_method(DESCRIPTION).execute([])
    try:
        description = json.loads(text)
    except (TypeError, ValueError):
        return {}
    return description if isinstance(description, dict) else {}
