"""What `references/detection/train.py --data-augmentation ssdlite` trains, written after it.

torchvision's model, loss, transforms, optimiser and schedule. Batch norms and normalisation are those of the weights
instead of SSDLite's, and the learning rate is scaled with the batch.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models.detection._utils import retrieve_out_channels
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead, _mobilenet_extractor
from torchvision.transforms import v2
from torchvision.tv_tensors import BoundingBoxes, BoundingBoxFormat, Image

from mbdet.backbones.base import IMAGENET_MEAN, IMAGENET_STD
from mbdet.data.detection import DetectionDataModule
from mbdet.errors import InputError
from mbdet.metrics.coco import CocoMetrics
from mbdet.runtime.types import Detections
from torchvision_reference.base import Recipe, Reference, imagenet_trunk

LEARNING_RATE = 0.15 / (8 * 24)  # per image of the batch: torchvision's recipe for SSDLite
WEIGHT_DECAY = 4e-5
Target = dict[str, Tensor]
Sample = tuple[Tensor, Target]


class ReferenceData(Dataset[Sample]):
    """A data set of ours with torchvision's targets and transforms.

    Args:
        dataset: Without a transform of its own.
        train: Whether to crop and flip.
    """

    def __init__(self, dataset: Any, train: bool) -> None:
        self.dataset = dataset
        augment: list[Any] = [v2.RandomIoUCrop(), v2.RandomHorizontalFlip(0.5)] if train else []
        finish = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.SanitizeBoundingBoxes(), v2.ToPureTensor()]
        self.transform = v2.Compose([*augment, *finish])

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        """Return a float image in [0, 1] and its boxes, labels from 1 up, as torchvision's detectors take them.

        Raises:
            InputError: If the image cannot be read.
        """
        sample = self.dataset[index]
        if sample is None:
            raise InputError(f"{self.dataset.describe(index)}: cannot be read; replace it or take it off the list")
        boxes = BoundingBoxes(
            torch.from_numpy(sample.boxes),
            format=BoundingBoxFormat.XYXY,
            canvas_size=sample.image.shape[:2],
        )
        target = {"boxes": boxes, "labels": torch.from_numpy(sample.labels) + 1}
        image, target = self.transform(Image(torch.from_numpy(sample.image).permute(2, 0, 1)), target)
        return image, target | {"image_id": torch.tensor(sample.image_id)}


class DetectionReference(Reference):
    """SSDLite at 320x320.

    Args:
        data: A data module of ours, after `setup("fit")`; its data sets lose their transforms.
        weights: Of MobileNetV2, anything that `load_backbone_weights` takes.
    """

    name = "SSDLite"
    figures = CocoMetrics.headline
    model: SSD

    def __init__(self, data: DetectionDataModule, weights: str) -> None:
        for dataset in (data.train_dataset, data.val_dataset):
            dataset.transform = None  # torchvision resizes inside its model
        super().__init__(
            reference_model(len(data.class_names), weights),
            _loader(data.train_dataset, data, train=True),
            _loader(data.val_dataset, data, train=False),
            data.evaluator(),
        )
        self.batch_size = data.batch_size

    def recipe(self, epochs: int) -> Recipe:
        """See `Reference.recipe`."""
        optimizer = torch.optim.SGD(
            self.model.parameters(), lr=LEARNING_RATE * self.batch_size, momentum=0.9, weight_decay=WEIGHT_DECAY
        )
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
        steps = min(1000, len(self.train_batches) - 1)  # it is over with the first epoch
        return Recipe(optimizer, torch.optim.lr_scheduler.LinearLR(optimizer, 1 / 1000, total_iters=steps), cosine)

    def loss(self, batch: tuple[list[Tensor], list[Target]]) -> Tensor:
        """See `Reference.loss`."""
        return torch.stack(list(self.model(*batch).values())).sum()

    def collect(self, batch: tuple[list[Tensor], list[Target]]) -> None:
        """See `Reference.collect`."""
        images, targets = batch
        for target, found in zip(targets, self.model(images), strict=True):
            detections = Detections(*(found[name].numpy() for name in ("boxes", "scores", "labels")))
            self.evaluator.update(int(target["image_id"]), detections._replace(labels=detections.labels - 1))


def reference_model(num_classes: int, weights: str) -> SSD:
    """Build what `ssdlite320_mobilenet_v3_large` builds, on MobileNetV2 with ImageNet weights.

    Args:
        num_classes: K, background not counted.
        weights: Of MobileNetV2, anything that `load_backbone_weights` takes.
    """
    trunk = imagenet_trunk(weights)
    for block in trunk.features[1:-1]:
        block.block = block.conv  # the extractor knows a block's layers by V3's name

    norm_layer = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
    backbone = _mobilenet_extractor(trunk, 6, norm_layer)
    anchors = DefaultBoxGenerator([[2, 3] for _ in range(6)], min_ratio=0.2, max_ratio=0.95)
    channels = retrieve_out_channels(backbone, (320, 320))
    head = SSDLiteHead(channels, anchors.num_anchors_per_location(), num_classes + 1, norm_layer)
    return SSD(
        backbone,
        anchors,
        (320, 320),
        num_classes + 1,
        head=head,
        score_thresh=0.001,
        nms_thresh=0.55,
        detections_per_img=300,
        topk_candidates=300,
        image_mean=[value / 255 for value in IMAGENET_MEAN],  # the normalisation of the weights
        image_std=[value / 255 for value in IMAGENET_STD],
    )


def _loader(dataset: Any, data: DetectionDataModule, train: bool) -> DataLoader[Sample]:
    """Batch as torchvision's reference does, in lists, with the batch size and workers of a data module of ours."""
    return DataLoader(
        ReferenceData(dataset, train),
        data.batch_size,
        shuffle=train,
        drop_last=train,
        num_workers=data.num_workers,
        persistent_workers=data.num_workers > 0,
        collate_fn=_as_lists,
    )


def _as_lists(batch: Sequence[Sample]) -> tuple[list[Tensor], list[Target]]:
    """Return the images and the targets of a batch."""
    images, targets = zip(*batch, strict=True)
    return list(images), list(targets)
