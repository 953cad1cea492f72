"""What a network costs: parameters and multiply-adds."""

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
    training = {layer: layer.training for layer in module.modules()}
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            module.eval()(images)
    finally:
        for layer, mode in training.items():
            layer.training = mode
    return int(counter.get_total_flops()) // 2
