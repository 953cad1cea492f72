"""What turns one feature map into numbers for its anchors."""

from torch import Tensor, nn

from mbdet.backbones.blocks import ConvConfig, depthwise


def rows_by_anchor(x: Tensor, num_outputs: int) -> Tensor:
    """Turn (B, num_anchors * num_outputs, h, w) into (B, h * w * num_anchors, num_outputs), in the anchors' order."""
    batch, channels, height, width = x.shape  # spelt out, as -1 is ambiguous in a batch of no images
    return x.permute(0, 2, 3, 1).reshape(batch, height * width * channels // num_outputs, num_outputs)


class ConvPredictor(nn.Module):
    """One convolution with bias and nothing after it.

    Args:
        in_channels: Channels of the feature map.
        num_anchors: Anchors per cell.
        num_outputs: Numbers predicted for each anchor.
        kernel_size: Side of the kernel, odd.
    """

    def __init__(self, in_channels: int, num_anchors: int, num_outputs: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, num_anchors * num_outputs, kernel_size, padding=kernel_size // 2)
        self.num_outputs = num_outputs

    @property
    def last(self) -> nn.Conv2d:
        """The convolution whose outputs are the predictions."""
        return self.conv

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, h * w * num_anchors, num_outputs), in the order of `ssd_anchors`."""
        return rows_by_anchor(self.conv(x), self.num_outputs)


class SeparablePredictor(nn.Module):
    """Depthwise 3x3 with batch norm and ReLU6, then a 1x1 convolution with bias and nothing after it.

    Args:
        in_channels: Channels of the feature map.
        num_anchors: Anchors per cell.
        num_outputs: Numbers predicted for each anchor.
        config: Padding and batch norm constants.
    """

    def __init__(self, in_channels: int, num_anchors: int, num_outputs: int, config: ConvConfig) -> None:
        super().__init__()
        self.depthwise = depthwise(in_channels, config)
        self.pointwise = nn.Conv2d(in_channels, num_anchors * num_outputs, 1)
        self.num_outputs = num_outputs

    @property
    def last(self) -> nn.Conv2d:
        """The convolution whose outputs are the predictions."""
        return self.pointwise

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, h * w * num_anchors, num_outputs), in the order of `ssd_anchors`."""
        return rows_by_anchor(self.pointwise(self.depthwise(x)), self.num_outputs)
