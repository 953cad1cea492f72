"""Image classification: the backbones' first task, and where their weights come from."""

from typing import Literal, get_args

from torch import Tensor, nn

from mbdet.backbones.base import Backbone
from mbdet.models.network import Network

HiddenAct = Literal["hard_swish", "relu"]
ACTIVATIONS: dict[HiddenAct, type[nn.Module]] = {"hard_swish": nn.Hardswish, "relu": nn.ReLU}


class Classifier(Network):
    """Global average pool, a hidden layer if there is one, dropout, logits.

    Images of any size work, because the pool takes the whole map, as slim's shrinks its kernel to the map.

    Args:
        backbone: Gives the feature map.
        num_classes: K; there is no background class (slim's weights have one, at 0).
        input_size: Height and width of the images in pixels: the papers' resolution multiplier.
        hidden_channels: Width of a layer between pool and dropout, with bias and without batch norm (1280 in V3-Large
            and 1024 in V3-Small, whatever their width multiplier); None for V1 and V2, which have none.
        hidden_act: Its activation: `hard_swish`, or `relu` in V3's minimalistic variants.
        dropout: Probability of zeroing a channel before the logits: 0.001 in V1, 0.2 in V2 and V3.
        tap: Name of the backbone's map to pool.

    Raises:
        ValueError: If the tap is not a map of the backbone, or an option is out of range.
    """

    kind = "classifier"
    logits: nn.Module

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        input_size: tuple[int, int] = (224, 224),
        hidden_channels: int | None = None,
        hidden_act: HiddenAct = "hard_swish",
        dropout: float = 0.2,
        tap: str = "c5",
    ) -> None:
        super().__init__()
        if tap not in backbone.specs:
            raise ValueError(f"tap {tap!r} is not a map of the backbone; it gives {list(backbone.specs)}")
        if hidden_act not in get_args(HiddenAct):
            raise ValueError(f"hidden_act is {hidden_act!r}; it must be one of {get_args(HiddenAct)}")
        if num_classes < 1 or min(input_size) < 1 or (hidden_channels is not None and hidden_channels < 1):
            raise ValueError(
                f"num_classes {num_classes}, input_size {tuple(input_size)}, hidden_channels {hidden_channels}: give 1"
                " or more of each"
            )
        self.num_classes = num_classes
        self.input_size = (input_size[0], input_size[1])
        self.tap = tap
        self.backbone = backbone
        channels = backbone.specs[tap].channels
        self.hidden = nn.Identity() if hidden_channels is None else nn.Linear(channels, hidden_channels)
        self.act = nn.Identity() if hidden_channels is None else ACTIVATIONS[hidden_act]()
        self.dropout = nn.Dropout(dropout)
        self.logits = nn.Linear(hidden_channels or channels, num_classes)
        for layer in (self.hidden, self.logits):
            if isinstance(layer, nn.Linear):  # as torchvision's MobileNets
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Predict, in training and in evaluation alike.

        Args:
            images: (B, 3, H, W) RGB in [0, 255], uint8 or floating point, of any size.

        Returns:
            Logits (B, K); no softmax.
        """
        pooled = self.backbone(images)[self.tap].mean((2, 3))
        out: Tensor = self.logits(self.dropout(self.act(self.hidden(pooled))))
        return out
