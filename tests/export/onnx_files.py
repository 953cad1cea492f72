"""Verified ONNX files for the tests of what files compute."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mbdet.export.base import Export, Form, Parity
from mbdet.export.format import Order, write_verified
from mbdet.export.onnx import OnnxFormat


def write_onnx(
    export: Export[Parity],
    names: Sequence[str],
    path: Path,
    images: np.ndarray,
    probabilities: bool = False,
    dynamic_batch: bool = True,
) -> Parity:
    """Write a file and return how close it comes to the network."""
    order = Order(export, Form(probabilities=probabilities), names, dynamic_batch=dynamic_batch)
    parity = write_verified(OnnxFormat(), order, export, path, images)
    assert parity is not None
    return parity
