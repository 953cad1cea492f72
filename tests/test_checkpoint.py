import sys
from pathlib import Path

import pytest
import torch

from mbdet.checkpoint import load_checkpoint
from mbdet.errors import InputError

NETWORK = {
    "class_path": "mbdet.models.SSDLite",
    "init_args": {
        "backbone": {"class_path": "mbdet.backbones.MobileNetV2", "init_args": {"width_mult": 0.35}},
        "num_classes": 3,
        "input_size": [64, 64],
    },
}


def save(path: Path, **content: object) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    "backbone", [{"class_path": "evil.Backbone"}, "evil.Backbone", {"init_args": ["evil.Backbone"]}]
)
def test_a_module_that_nobody_imported_is_not_imported(tmp_path: Path, backbone: object) -> None:
    (tmp_path / "evil.py").write_text("raise SystemExit('ran')")
    network = {"class_path": "mbdet.models.SSDLite", "init_args": {"backbone": backbone}}
    path = save(tmp_path / "a.ckpt", hyper_parameters={"network": network}, state_dict={"a": torch.zeros(1)})
    sys.path.insert(0, str(tmp_path))
    try:
        with pytest.raises(InputError, match=r"needs evil\.Backbone; import evil first if you trust it"):
            load_checkpoint(path)
    finally:
        sys.path.remove(str(tmp_path))


def test_a_class_that_is_no_network_is_not_built(tmp_path: Path) -> None:
    network = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", str(tmp_path / "ran")]}}
    path = save(tmp_path / "a.ckpt", hyper_parameters={"network": network}, state_dict={"a": torch.zeros(1)})
    import subprocess  # noqa: F401 -- imported, so that the name alone would be trusted

    with pytest.raises(InputError, match=r"a\.ckpt: its network cannot be built"):
        load_checkpoint(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [{"state_dict": {"a": torch.zeros(1)}}, {"hyper_parameters": {}}, {"a": 1}])
def test_a_checkpoint_without_a_description(tmp_path: Path, content: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"does not describe its network; give its config too"):
        load_checkpoint(save(tmp_path / "a.ckpt", **content))


def test_weights_must_fit_the_description(tmp_path: Path) -> None:
    path = save(tmp_path / "a.ckpt", hyper_parameters={"network": NETWORK}, state_dict={"box_heads.x": torch.zeros(1)})
    with pytest.raises(InputError, match="do not fit this network"):
        load_checkpoint(path)
