"""Helpers for the tests of weight loading."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from mbdet.errors import InputError

Save = Callable[[dict[str, Tensor], str], Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Return a function that writes tensors to a file of the given name, in the format of its suffix."""

    def write(tensors: dict[str, Tensor], name: str) -> Path:
        path = tmp_path / name
        if path.suffix == ".safetensors":
            save_file({key: value.contiguous() for key, value in tensors.items()}, path)
        elif path.suffix == ".npz":
            np.savez(path, **{key: value.numpy() for key, value in tensors.items()})
        elif path.suffix == ".ckpt":  # as Lightning writes it
            torch.save({"epoch": 3, "state_dict": {f"network.{key}": v for key, v in tensors.items()}}, path)
        else:
            torch.save(tensors, path)
        return path

    return write


@pytest.fixture
def refused() -> Callable[..., AbstractContextManager[None]]:
    """Return a context in which loading must fail with one line that matches, and leave the network as it was."""

    @contextmanager
    def check(network: nn.Module, match: str) -> Iterator[None]:
        before = {name: value.clone() for name, value in network.state_dict().items()}
        with pytest.raises(InputError, match=match) as caught:
            yield
        assert "\n" not in str(caught.value)
        torch.testing.assert_close(dict(network.state_dict()), before, rtol=0, atol=0)

    return check


@pytest.fixture
def coco_images(real_data: Path) -> Callable[[int], Tensor]:
    """Return a function that reads the first COCO validation images as a batch of 300 x 300 pixels."""

    def read(number: int) -> Tensor:
        paths = sorted((real_data / "coco" / "val2017").glob("*.jpg"))[:number]
        images = [Image.open(path).convert("RGB").resize((300, 300), Image.Resampling.BILINEAR) for path in paths]
        return torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in images])

    return read


def randomise(network: nn.Module, seed: int) -> None:
    """Give every parameter and statistic of a network a random value of its own."""
    torch.manual_seed(seed)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out")
            if layer.bias is not None:
                nn.init.normal_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.2)
            nn.init.normal_(layer.running_mean, std=0.2)
            nn.init.uniform_(layer.running_var, 0.5, 2.0)


@pytest.fixture
def randomised() -> Callable[..., nn.Module]:
    """Return a function that randomises a network and gives it back in evaluation mode."""

    def change(network: nn.Module, seed: int = 0) -> nn.Module:
        randomise(network, seed)
        return network.eval()

    return change
