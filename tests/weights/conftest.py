"""Helpers for the tests of weight loading."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from mbdet.backbones.blocks import ConvBNAct
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


@pytest.fixture
def images() -> Tensor:
    """Return random pictures of an odd height and an even width, so that paddings differ."""
    return torch.randint(256, (2, 3, 75, 96), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def normalised(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Normalise as their code does, mean and deviation being parts of 1."""
    return (images / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


@pytest.fixture
def normalise() -> Callable[[Tensor, Sequence[float], Sequence[float]], Tensor]:
    """Return `normalised`."""
    return normalised


def randomise(network: nn.Module, seed: int) -> None:
    """Give every parameter and statistic of a network a random value of its own."""
    torch.manual_seed(seed)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out")
            if layer.bias is not None:
                nn.init.normal_(layer.bias)
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
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


class TFWriter:
    """Collects arrays by their TF names.

    Args:
        style: `checkpoint` has variables, batch norms not folded; the others have constants with them folded: `frozen`
            and `fused` as in graphs with plain and fused batch norms, `tflite` and `converted` as in TFLite files of
            the older and the newer converter.
    """

    def __init__(self, style: str) -> None:
        self.style = style
        self.arrays: dict[str, Tensor] = {}

    def conv_bn(self, name: str, layer: ConvBNAct) -> None:
        """Write a convolution with its batch norm."""
        conv, bn = layer.conv, layer.bn
        depthwise = conv.groups > 1
        assert bn.running_mean is not None
        assert bn.running_var is not None
        scale = bn.weight.data / (bn.running_var + bn.eps).sqrt()
        bias = bn.bias.data - bn.running_mean * scale
        folded = conv.weight.data * scale.view(-1, 1, 1, 1)
        plain = "depthwise_weights" if depthwise else "weights"
        # The older converters enter slim's scope twice for what is no variable.
        twice = name.replace("MobilenetV1|", "MobilenetV1|MobilenetV1|")
        kernels = {
            "checkpoint": {plain: conv.weight.data},
            "frozen": {"depthwise_weights": conv.weight.data, "BatchNorm|batchnorm|mul": scale}
            if depthwise
            else {"Conv2D|merged_input": folded},
            "fused": {"depthwise_weights": conv.weight.data, "BatchNorm|FusedBatchNorm|Scaled": scale}
            if depthwise
            else {"Conv2D|merged_input": folded},
            "tflite": {plain: folded},
            "converted": {f"BatchNorm|FusedBatchNormV3;{name}|depthwise;a": folded}
            if depthwise
            else {"Conv2D": folded},
        }[self.style]
        for part, value in kernels.items():
            self.arrays[f"{name}|{part}"] = self.layout(value, depthwise) if value.ndim == 4 else value
        if self.style == "checkpoint":
            for part, value in (
                ("gamma", bn.weight.data),
                ("beta", bn.bias.data),
                ("moving_mean", bn.running_mean),
                ("moving_variance", bn.running_var),
            ):
                self.arrays[f"{name}|BatchNorm|{part}"] = value
        else:
            self.arrays[
                {
                    "frozen": f"{name}|BatchNorm|batchnorm|sub",
                    "fused": f"{name}|BatchNorm|FusedBatchNorm|Offset",
                    "tflite": f"{twice}|{'depthwise' if depthwise else 'convolution'}_bias",
                    "converted": f"{name}|BatchNorm|FusedBatchNormV3",
                }[self.style]
            ] = bias

    def conv(self, name: str, weight: Tensor, bias: Tensor) -> None:
        """Write a convolution with a bias; `weight` (out, in) of a 1x1 or (out, in, h, w)."""
        kernel, biases = {"tflite": ("weights", "Conv2D_bias"), "converted": ("Conv2D", "BiasAdd")}.get(
            self.style, ("weights", "biases")
        )
        self.arrays[f"{name}|{kernel}"] = self.layout(weight if weight.ndim == 4 else weight[..., None, None], False)
        self.arrays[f"{name}|{biases}"] = bias

    def backbone(self, network: Any, generation: int, prefix: str) -> None:
        """Write a MobileNet of ours."""
        stem, last = ("Conv2d_0", "") if generation == 1 else ("Conv", "Conv_1")
        self.conv_bn(f"{prefix}{stem}", network.stem)
        if not isinstance(network.last, nn.Identity):
            self.conv_bn(f"{prefix}{last}", network.last)
        for index, block in enumerate(network.blocks):
            if generation == 1:
                self.conv_bn(f"{prefix}Conv2d_{index + 1}_depthwise", block.depthwise)
                self.conv_bn(f"{prefix}Conv2d_{index + 1}_pointwise", block.pointwise)
                continue
            name = f"{prefix}expanded_conv{f'_{index}' if index else ''}"
            for part in ("expand", "depthwise", "project"):
                if isinstance(getattr(block, part), ConvBNAct):
                    self.conv_bn(f"{name}|{part}", getattr(block, part))
            if not isinstance(block.se, nn.Identity):
                for part, gate in (("Conv", block.se.reduce), ("Conv_1", block.se.expand)):
                    self.conv(f"{name}|squeeze_excite|{part}", gate.weight.data, gate.bias.data)

    def layout(self, weight: Tensor, depthwise: bool) -> Tensor:
        """Turn (out, in, h, w) into TF's order of axes."""
        if self.style in ("tflite", "converted"):
            return weight.permute((1, 2, 3, 0) if depthwise else (0, 2, 3, 1)).contiguous()
        return weight.permute((2, 3, 0, 1) if depthwise else (2, 3, 1, 0)).contiguous()

    def tensors(self) -> dict[str, Tensor]:
        """Return what was written, each with memory of its own."""
        return {
            name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in self.arrays.items()
        }


@pytest.fixture
def tf_writer() -> type[TFWriter]:
    """Return `TFWriter`."""
    return TFWriter
