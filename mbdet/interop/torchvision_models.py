"""mbdet's published detectors among the models of torchvision."""

from collections.abc import Callable
from itertools import chain

from torch import nn
from torchvision.models._api import list_models, register_model  # the latter is nowhere else

from mbdet.backbones.mobilenet import Block, MobileNet
from mbdet.errors import InputError
from mbdet.interop.torchvision_detection import TorchvisionDetector
from mbdet.models import SSDLite, zoo
from mbdet.ops import FocalSSDLoss
from mbdet.weights import load_backbone_weights, load_weights

DETECTORS: dict[str, Callable[[int], SSDLite]] = {
    "mbdet_ssdlite320_mobilenet_v1": zoo.ssdlite_mobilenet_v1,
    "mbdet_ssdlite320_mobilenet_v2": zoo.ssdlite_mobilenet_v2,
    "mbdet_ssdlite320_mobilenet_v3_large": zoo.ssdlite_mobilenet_v3_large,
    "mbdet_ssdlite320_mobilenet_v3_small": zoo.ssdlite_mobilenet_v3_small,
}


def register_with_torchvision() -> None:
    """Make mbdet's published detectors known to `torchvision.models.get_model` and `list_models`.

    Their names are those of `DETECTORS`. They take what torchvision's references/detection/train.py gives: see
    `detector_builder`. A second call changes nothing.
    """
    for name in sorted(DETECTORS.keys() - set(list_models())):
        register_model(name)(detector_builder(DETECTORS[name]))


def detector_builder(build: Callable[[int], SSDLite]) -> Callable[..., TorchvisionDetector]:
    """Return a function with the arguments of torchvision's detection models.

    Args:
        build: Makes the network from its number of classes, background not counted.
    """

    def builder(
        weights: str | None = None,
        weights_backbone: str | None = None,
        num_classes: int = 91,
        trainable_backbone_layers: int | None = None,
    ) -> TorchvisionDetector:
        """Build the detector, trained with sigmoid focal loss.

        Args:
            weights: All weights to start from: a file or a name in `mbdet.weights.PUBLISHED`.
            weights_backbone: The backbone's weights to start from, likewise.
            num_classes: 1 + K, because torchvision counts background.
            trainable_backbone_layers: How many stages of the backbone are trained, counted from its end, see
                `freeze_stages`; by default all.
        """
        network = build(num_classes - 1)
        if weights is not None:
            load_weights(network, weights)
        if weights_backbone is not None:
            load_backbone_weights(network.backbone, weights_backbone)
        if trainable_backbone_layers is not None:
            assert isinstance(network.backbone, MobileNet)
            freeze_stages(network.backbone, trainable_backbone_layers)
        return TorchvisionDetector(network, FocalSSDLoss())

    return builder


def freeze_stages(backbone: MobileNet, trainable: int) -> None:
    """Keep all but the last stages of a backbone from training; batch norms still follow the data.

    As in torchvision's SSDLite there are 6 stages: each begins with a stride of 2, and the last is the last layer.

    Args:
        backbone: Changed in place.
        trainable: Number of stages that are trained, from 0 to 6.

    Raises:
        InputError: If there are not so many.
    """
    layers: list[nn.Module] = [backbone.stem, *backbone.blocks]
    if not isinstance(backbone.last, nn.Identity):
        layers.append(backbone.last)
    starts = [0, *(i for i, layer in enumerate(layers) if isinstance(layer, Block) and layer.stride == 2)]
    starts += [len(layers) - 1, len(layers)]
    if not 0 <= trainable < len(starts):
        raise InputError(f"trainable_backbone_layers is {trainable}; give 0 to {len(starts) - 1}")
    frozen = layers[: starts[len(starts) - 1 - trainable]]
    for parameter in chain.from_iterable(layer.parameters() for layer in frozen):
        parameter.requires_grad_(False)
