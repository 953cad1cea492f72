"""ncnn as engine of a model file."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mbdet.errors import InputError
from mbdet.runtime.model_file import ModelFile, Values, cannot_load, read_description

try:
    import ncnn
except ImportError as error:
    raise InputError("running an ncnn file needs ncnn: pip install ncnn") from error


class NcnnFile(ModelFile):
    """An ncnn file; its weights and its description are beside it.

    Args:
        path: The file of the layers, `NAME.ncnn.param`.
        device: `cpu`, which is also the default.
        threads: CPU threads; by default what ncnn thinks best.

    Raises:
        InputError: If a file is missing or damaged, or was not exported by mbdet, or there is no such device.
    """

    def __init__(self, path: Path, device: str | None = None, threads: int | None = None) -> None:
        if device not in (None, "cpu"):
            raise InputError(f"device {device!r}: mbdet runs ncnn files on cpu alone; leave --device out")
        super().__init__(path, read_description(path))
        weights = weights_beside(path)
        if not weights.is_file():
            raise InputError(f"{path}: {weights.name}, which has its weights, is not beside it; copy both")
        self._net = ncnn.Net()
        options = self._net.opt
        if threads is not None:
            options.num_threads = threads
        # By default ncnn computes in half precision wherever the CPU can, whatever the weights are stored in.
        half = self.description.get("precision") == "fp16"
        options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = half
        if self._net.load_param(str(path)) != 0 or self._net.load_model(str(weights)) != 0:
            raise cannot_load(path, "ncnn", ValueError("damaged, or not the weights of these layers"))

    def compute(self, images: NDArray[np.uint8]) -> Values:
        """See `ModelFile.compute`; ncnn knows no batches, so there is one image."""
        pixels = images[0].astype(np.float32, order="C")  # with a name, as ncnn.Mat does not keep it alive
        extractor = self._net.create_extractor()
        extractor.input("in0", ncnn.Mat(pixels).clone())  # a copy is aligned as ncnn wants it
        values: Values = {}
        for index, name in enumerate(self.description["output"]):
            status, found = extractor.extract(f"out{index}")
            if status != 0:
                raise InputError(f"{self.path}: ncnn cannot compute {name} (status {status}); export it again")
            values[name] = np.array(found)[None]
        return values


def weights_beside(path: Path) -> Path:
    """Return the name of the file with the weights of the layers in another."""
    return path.with_suffix(".bin")
