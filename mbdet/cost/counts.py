"""Counts of parameters and multiply-adds."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(module: nn.Module, batch_norm: bool = True) -> int:
    """Count learnable numbers.

    Args:
        module: The network.
        batch_norm: Whether batch norms' scales and shifts count; the MobileNet papers' detection tables leave them out.
    """
    layers = [layer for layer in module.modules() if batch_norm or not isinstance(layer, _BatchNorm)]
    return sum(parameter.numel() for layer in layers for parameter in layer.parameters(recurse=False))


def count_madds(module: nn.Module, images: Tensor) -> int:
    """Count multiply-adds of the convolutions and fully connected layers in one forward pass.

    Args:
        module: The network; on the meta device the count costs no time.
        images: An input on the same device.
    """
    with evaluation_mode(module), torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(images)
    return int(counter.get_total_flops()) // 2


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode, and every layer back into its own mode afterwards."""
    training = {layer: layer.training for layer in module.modules()}
    try:
        module.eval()
        yield
    finally:
        for layer, mode in training.items():
            layer.training = mode
