"""mbdet: object detection and semantic segmentation on MobileNet backbones.

Importing this package imports neither torch nor anything else that is slow; the submodules do when they are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mbdet.runtime.predictor import Predictor

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(model: str | Path, weights: str | Path | None = None, overrides: Sequence[str] = ()) -> Predictor[Any]:
    """Load a trained model, ready for use: `mbdet.load("best.ckpt")("street.jpg")`.

    Args:
        model: A checkpoint of `tools/train.py`, a file of `tools/export.py` (then torch is not imported, but by the
            Python binding of ExecuTorch), or a config.
        weights: With a config: a weight file or a published name.
        overrides: With a config: further options, such as `["--model.postprocess.iou_threshold", "0.5"]`.

    Returns:
        A callable from a path, Pillow image or (H, W, 3) uint8 RGB array to what is in it: `Detections` of a
        detector, `Classification` of a classifier, `Segmentation` of a segmenter, `MultiTaskPrediction` of a
        multitask network.

    Raises:
        InputError: If a file is missing or damaged, or they do not fit together.
    """
    from mbdet.errors import InputError

    path = Path(model)
    is_config = path.suffix in (".yaml", ".yml")
    if is_config != (weights is not None):
        cure = "give its weights too" if is_config else "it brings its own weights, so give no others"
        raise InputError(f"{path}: {cure}")
    from mbdet.runtime.load import is_model_file, load_file

    if is_model_file(path):
        return load_file(path)
    if weights is None:
        from mbdet.checkpoint import load_checkpoint

        return load_checkpoint(path)
    from mbdet.config import ConfigCLI

    return ConfigCLI(path, overrides).predictor(weights)
