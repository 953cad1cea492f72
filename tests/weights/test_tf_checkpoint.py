"""TF checkpoints, which only TensorFlow reads."""

import sys
from pathlib import Path

import numpy as np
import pytest

from mbdet.checkpoint import check_same_network, checkpoint_names
from mbdet.errors import InputError
from mbdet.weights.files import read_tensors
from mbdet.weights.published import resolve


def test_without_tensorflow_the_cure_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    (tmp_path / "model.ckpt.index").touch()
    path = resolve(str(tmp_path / "model.ckpt"))
    with pytest.raises(InputError, match=r"model\.ckpt: .*needs TensorFlow: pip install tensorflow; or .*\.tflite"):
        read_tensors(path)


def test_a_prefix_is_no_checkpoint_of_ours(tmp_path: Path) -> None:
    """Both are called .ckpt."""
    (tmp_path / "model.ckpt.index").touch()
    assert checkpoint_names(tmp_path / "model.ckpt") == {}
    check_same_network(tmp_path / "model.ckpt", {"class_path": "any"})


def test_variables(tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is no part of the development environment")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.get_variable("MobilenetV1/Conv2d_0/weights", initializer=np.arange(6, dtype=np.float32))
        tf.compat.v1.get_variable("global_step", initializer=np.int64(3))
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver().save(session, str(tmp_path / "model.ckpt"))
    tensors = read_tensors(tmp_path / "model.ckpt")
    assert tensors["MobilenetV1/Conv2d_0/weights"].tolist() == [0, 1, 2, 3, 4, 5]
    for path in tmp_path.glob("model.ckpt.*"):
        path.write_bytes(path.read_bytes()[:10])
    with pytest.raises(InputError, match=r"model\.ckpt: damaged TF checkpoint"):
        read_tensors(tmp_path / "model.ckpt")
