"""Key map of Google's DeepLabv3 on MobileNetV2 (research/deeplab).

The network is `DeepLabV3(backbone, 21, rates=())`, with rates where there are `aspp1` and so on, on
`MobileNetV2(last_channels=None, output_stride=8, padding="same", bn_eps=1e-3)`. What a frozen graph does to an image
before the network, and evaluation has to do as well: resize so that the longer side is 513 pixels, then pad to
513 x 513 with the mean, 127.5, at the bottom and right.
"""

import re

from mbdet.weights.origin import TF_DEEPLAB, Origin, Tensors, fixed
from mbdet.weights.tf_layers import TFLayers
from mbdet.weights.tf_mobilenet import has_mobilenet, leftovers, take_backbone

# Constants of the frozen graph that are no weights: sizes, dilations, the scale of the pixels, the mean to pad with.
CONSTANTS = re.compile(
    r"(mul|sub|stack|Reshape|strided_slice|ResizeBilinear)(_\d+)?(\|.*)?|(ToFloat|Assert|SemanticPredictions)\|.*"
    r"|.*\|(SpaceToBatchND|BatchToSpaceND)\|.*"
)
BRANCH = re.compile(r"aspp(\d+)(?=\|)")


def is_tf_deeplab(tensors: Tensors) -> bool:
    """Tell whether these are Google's DeepLabv3 on MobileNetV2."""
    return has_mobilenet(2, tensors) and any(re.match(r"concat_projection[|/]", name) for name in tensors)


def from_tf_deeplab(tensors: Tensors, num_classes: int) -> Tensors:
    """See `Origin.convert`."""
    layers = TFLayers({name: value for name, value in tensors.items() if not CONSTANTS.fullmatch(name)})
    names = {"image_pooling": "image_pooling", "projection": "concat_projection"}
    names |= {f"aspp.{match[1]}": match[0] for match in map(BRANCH.match, layers.remaining) if match}
    state = take_backbone(layers, 2, "MobilenetV2|")
    for ours, theirs in names.items():
        found = layers.take_conv_bn(theirs, TF_DEEPLAB.head_bn_eps or TF_DEEPLAB.bn_eps)
        state |= {f"{ours}.{name}": value for name, value in found.items()}
    state |= {f"classifier.{name}": value for name, value in layers.take_conv("logits|semantic").items()}
    return state | leftovers(layers)


ORIGINS = (Origin("TF weights of a DeepLabv3 on MobileNetV2", is_tf_deeplab, from_tf_deeplab, fixed(TF_DEEPLAB)),)
