"""mbdet's backbones among the models of timm (PyTorch Image Models)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from mbdet.backbones import Backbone, MobileNetV1, MobileNetV2, MobileNetV3
from mbdet.errors import InputError
from mbdet.models import Classifier

LEVELS = ("c3", "c4", "c5")


class Model(NamedTuple):
    """A classifier of a MobileNet paper."""

    build: Callable[..., Backbone]
    drop_rate: float
    hidden_channels: int | None  # of the layer between pool and logits, whatever the width multiplier


MODELS = {
    "mbdet_mobilenetv1": Model(MobileNetV1, 0.001, None),
    "mbdet_mobilenetv2": Model(MobileNetV2, 0.2, None),
    "mbdet_mobilenetv3_large": Model(partial(MobileNetV3, "large"), 0.2, 1280),
    "mbdet_mobilenetv3_small": Model(partial(MobileNetV3, "small"), 0.2, 1024),
}


class TimmClassifier(Classifier):
    """A classifier with the methods of timm's.

    Args:
        backbone: Gives the map.
        config: What timm's data loaders ask for.
        num_classes: K; 0 leaves the logits out.
        hidden_channels: Width of a layer between pool and dropout with hard-swish, if there is one.
        drop_rate: Dropout before the logits.
    """

    def __init__(
        self,
        backbone: Backbone,
        config: dict[str, Any],
        num_classes: int,
        hidden_channels: int | None,
        drop_rate: float,
    ) -> None:
        super().__init__(backbone, max(1, num_classes), hidden_channels=hidden_channels, dropout=drop_rate)
        self.pretrained_cfg = self.default_cfg = config  # older code asks for the latter
        self.num_features = backbone.specs["c5"].channels
        self.head_hidden_size = hidden_channels or self.num_features
        if num_classes == 0:
            self.reset_classifier(0)

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the map `c5` (B, num_features, h, w)."""
        features: Tensor = self.backbone(images)["c5"]
        return features

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits (B, K), or with `pre_logits` what they are made of, (B, head_hidden_size)."""
        pooled: Tensor = self.dropout(self.act(self.hidden(features.mean((2, 3)))))
        return pooled if pre_logits else self.logits(pooled)

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.logits

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last layer by a new one of `num_classes`; 0 leaves it out."""
        self.num_classes = num_classes
        self.logits = nn.Linear(self.head_hidden_size, num_classes) if num_classes > 0 else nn.Identity()


class TimmFeatures(nn.Module):
    """A backbone as timm's `features_only` networks: a list of maps, described by `feature_info`.

    Args:
        backbone: Gives the maps.
        config: What timm's data loaders ask for.
        out_indices: Which of `c3`, `c4` and `c5` to return, negative ones counted from the end.

    Raises:
        InputError: If there is no such map.
    """

    def __init__(self, backbone: Backbone, config: dict[str, Any], out_indices: Sequence[int]) -> None:
        from timm.models import FeatureInfo

        super().__init__()
        self.backbone = backbone
        self.pretrained_cfg = self.default_cfg = config
        if not all(-len(LEVELS) <= index < len(LEVELS) for index in out_indices):
            raise InputError(
                f"out_indices are {tuple(out_indices)}; mbdet's backbones give 3 maps: 0, 1 and 2 are strides 8, 16, 32"
            )
        self.names = [LEVELS[index] for index in out_indices]
        specs = [backbone.specs[name] for name in LEVELS]
        info = [
            {"num_chs": s.channels, "reduction": s.stride, "module": name}
            for name, s in zip(LEVELS, specs, strict=True)
        ]
        self.feature_info = FeatureInfo(info, tuple(out_indices))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map (B, 3, H, W) RGB in [0, 255] to the maps, finest first."""
        features = self.backbone(images)
        return [features[name] for name in self.names]


def register_with_timm() -> None:
    """Make mbdet's MobileNets known to `timm.create_model` and `timm.list_models`, as `mbdet_mobilenetv2` and so on.

    Each is a classifier (`TimmClassifier`), or with `features_only=True` a list of maps (`TimmFeatures`); see
    `entrypoint` for the arguments. A second call changes nothing.

    Raises:
        InputError: If timm is not installed.
    """
    try:
        import timm
    except ImportError:
        raise InputError("registering models with timm needs timm: pip install 'mbdet[timm]'") from None
    for name, model in MODELS.items():
        if not timm.is_model(name):
            timm.models.register_model(entrypoint(name, model))


def entrypoint(name: str, model: Model) -> Callable[..., TimmClassifier | TimmFeatures]:
    """Return the function that `timm.create_model` calls.

    Args:
        name: That timm shall know it by.
        model: What it builds.
    """

    def create(
        pretrained: bool = False,
        pretrained_cfg: object = None,
        pretrained_cfg_overlay: object = None,
        cache_dir: object = None,
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = model.drop_rate,
        features_only: bool = False,
        out_indices: Sequence[int] = (0, 1, 2),
        output_stride: int = 32,
        width_mult: float = 1.0,
    ) -> TimmClassifier | TimmFeatures:
        """Build a classifier or a feature extractor with random weights.

        Args:
            pretrained: Refused: timm has no weights of ours.
            pretrained_cfg: timm gives it to every model; it describes pretrained weights.
            pretrained_cfg_overlay: Likewise.
            cache_dir: Likewise.
            num_classes: Of the classifier; 0 leaves the logits out.
            in_chans: 3.
            drop_rate: Dropout of the classifier.
            features_only: Whether to return a `TimmFeatures` instead.
            out_indices: Its maps: 0, 1 and 2 are the strides 8, 16 and 32.
            output_stride: 32, or 16 or 8 to trade stride for dilation.
            width_mult: Scales every width.

        Raises:
            InputError: For `pretrained`, or images that are not RGB.
        """
        if pretrained:
            raise InputError(
                "timm has no weights of mbdet's models; build the model without pretrained and load weights with"
                " mbdet.weights.load_backbone_weights(model.backbone, FILE_OR_NAME)"
            )
        if in_chans != 3:
            raise InputError(f"in_chans is {in_chans}; mbdet's models take RGB images, which have 3")
        backbone = model.build(width_mult=width_mult, output_stride=output_stride)
        config = pretrained_config(name, num_classes)
        if features_only:
            return TimmFeatures(backbone, config, out_indices)
        return TimmClassifier(backbone, config, num_classes, model.hidden_channels, drop_rate)

    create.__name__ = create.__qualname__ = name  # which is what timm registers it by
    return create


def pretrained_config(name: str, num_classes: int) -> dict[str, Any]:
    """Return what timm's data loaders ask of a model.

    Mean 0 and standard deviation 1 / 255 make [0, 255] of timm's [0, 1], which is what mbdet's networks take.
    """
    return {
        "architecture": name,
        "num_classes": num_classes,
        "input_size": (3, 224, 224),
        "pool_size": (7, 7),
        "crop_pct": 0.875,
        "interpolation": "bilinear",
        "mean": (0.0, 0.0, 0.0),
        "std": (1 / 255, 1 / 255, 1 / 255),
        "first_conv": "backbone.stem.conv",
        "classifier": "logits",
    }
