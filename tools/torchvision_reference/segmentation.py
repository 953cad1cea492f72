"""What `references/segmentation/train.py --model lraspp_mobilenet_v3_large --wd 0.000001` trains, written after it.

torchvision's model, loss, transforms, optimiser and schedule. The learning rate is the script's own, for its own batch
of 8, and is not scaled. The base size is the shorter side of the network input and the crop all of it, instead of 520
and 480. What makes no difference is ours: reading, batching, and normalising batches instead of images.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.segmentation.lraspp import LRASPP, _lraspp_mobilenetv3
from torchvision.transforms import v2
from torchvision.tv_tensors import Image, Mask

from mbdet.backbones.base import IMAGENET_MEAN, IMAGENET_STD
from mbdet.data.segmentation import SegmentationDataModule
from mbdet.metrics.segmentation import SegmentationMetrics, confusion_matrix
from mbdet.predictor import to_segmentations
from mbdet.runtime.types import IGNORED
from mbdet.types import SegmentationBatch
from torchvision_reference.base import Recipe, Reference, imagenet_trunk

LEARNING_RATE = 0.01
WEIGHT_DECAY = 1e-6
POWER = 0.9
DILATED = slice(14, 18)  # of the features: the blocks of stride 32


class PadIfSmaller(v2.Transform):
    """Pad at the right and at the bottom, images with black and masks with 255.

    Args:
        size: Least height and width.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        """Pad one of the two."""
        height, width = (max(least - side, 0) for least, side in zip(self.size, inpt.shape[-2:], strict=True))
        return v2.functional.pad(inpt, [0, 0, width, height], fill=IGNORED if isinstance(inpt, Mask) else 0)


class ReferenceTransform:
    """Random scale, flip and crop.

    Args:
        size: Height and width of the crop.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        base = min(size)
        resize = v2.RandomResize(base // 2, base * 2)
        self.pipeline = v2.Compose([resize, v2.RandomHorizontalFlip(0.5), PadIfSmaller(size), v2.RandomCrop(size)])

    def __call__(
        self, image: NDArray[np.uint8], mask: NDArray[np.uint8]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Augment an image (H, W, 3) and its mask (H, W) alike."""
        pixels, classes = Image(torch.from_numpy(image).permute(2, 0, 1)), Mask(torch.from_numpy(mask))
        pixels, classes = self.pipeline(pixels, classes)
        return pixels.permute(1, 2, 0).numpy(), classes.numpy()


class SegmentationReference(Reference):
    """LR-ASPP at output stride 16.

    Args:
        data: A data module of ours, after `setup("fit")`; its training set gets torchvision's transforms.
        weights: Of MobileNetV2, anything that `load_backbone_weights` takes.
    """

    name = "LR-ASPP"
    figures = SegmentationMetrics.headline

    def __init__(self, data: SegmentationDataModule, weights: str) -> None:
        data.train_dataset.transform = ReferenceTransform(data.input_size)
        super().__init__(
            reference_model(len(data.class_names), weights),
            data.train_dataloader(),
            data.val_dataloader(),
            data.evaluator(),
        )
        self.num_classes, self.resizing = len(data.class_names), data.resizing
        mean, std = ([value / 255 for value in values] for values in (IMAGENET_MEAN, IMAGENET_STD))
        self.normalize = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])

    def recipe(self, epochs: int) -> Recipe:
        """See `Reference.recipe`."""
        optimizer = torch.optim.SGD(self.model.parameters(), lr=LEARNING_RATE, momentum=0.9, weight_decay=WEIGHT_DECAY)
        steps = epochs * len(self.train_batches)
        return Recipe(optimizer, torch.optim.lr_scheduler.PolynomialLR(optimizer, steps, POWER), None)

    def loss(self, batch: SegmentationBatch) -> Tensor:
        """See `Reference.loss`."""
        return F.cross_entropy(self.logits(batch), batch.masks.long(), ignore_index=IGNORED)

    def collect(self, batch: SegmentationBatch) -> None:
        """See `Reference.collect`."""
        found = to_segmentations(self.logits(batch).softmax(1), batch.sizes.numpy(), self.resizing)
        for image_id, truth, prediction in zip(batch.image_ids.tolist(), batch.original_masks, found, strict=True):
            self.evaluator.update(image_id, confusion_matrix(truth, prediction.classes, self.num_classes))

    def logits(self, batch: SegmentationBatch) -> Tensor:
        """Return the logits (B, K, H, W) of the network input."""
        logits: Tensor = self.model(self.normalize(batch.images))["out"]
        return logits


def reference_model(num_classes: int, weights: str) -> LRASPP:
    """Build what `lraspp_mobilenet_v3_large` builds, on MobileNetV2 with ImageNet weights, in channels_last as ours.

    Args:
        num_classes: K, the data set's own classes.
        weights: Of MobileNetV2, anything that `load_backbone_weights` takes.
    """
    trunk = imagenet_trunk(weights)
    for layer in trunk.features[DILATED].modules():
        if isinstance(layer, nn.Conv2d) and layer.groups > 1:
            layer.stride, layer.dilation, layer.padding = (1, 1), (2, 2), (2, 2)  # V3's last stage, dilated
    model = _lraspp_mobilenetv3(trunk, num_classes)  # type: ignore[arg-type]  # it takes V2 as it is
    return model.to(memory_format=torch.channels_last)
