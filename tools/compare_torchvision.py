"""Train torchvision's reference SSDLite on a data set in VOC layout, beside a model of ours.

The reference is torchvision's own model, loss, transforms, optimiser, schedule and loop (references/detection/train.py
with `--data-augmentation ssdlite`), on MobileNetV2 so that both start from the same weights. torchvision builds SSDLite
on V3 only; its extractor takes V2 once a block's layers go by V3's name.

    python tools/compare_torchvision.py train CONFIG --weights FILE --output FOLDER --data.root DIR
    python tools/compare_torchvision.py time CONFIG --weights FILE --data.root DIR

CONFIG is one of ours: it names the data, the batch and the epochs. `train` trains the reference on them and scores it
with mbdet's evaluator, `evaluate` does so on another split; `time` alternates training steps of both models in one
process and prints how long each takes.
"""

import argparse
import csv
import math
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models.detection._utils import retrieve_out_channels
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead, _mobilenet_extractor
from torchvision.models.mobilenetv2 import mobilenet_v2
from torchvision.transforms import v2
from torchvision.tv_tensors import BoundingBoxes, BoundingBoxFormat, Image

from mbdet.backbones import MobileNetV2
from mbdet.backbones.base import IMAGENET_MEAN, IMAGENET_STD
from mbdet.config import ConfigCLI
from mbdet.errors import InputError
from mbdet.runtime.types import Detections
from mbdet.tasks import DetectionTask
from mbdet.weights import load_backbone_weights

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
        """Return a float image in [0, 1] and its boxes, labels from 1 up, as torchvision's detectors take them."""
        sample = self.dataset[index]
        boxes = BoundingBoxes(
            torch.from_numpy(sample.boxes),
            format=BoundingBoxFormat.XYXY,
            canvas_size=sample.image.shape[:2],
        )
        target = {"boxes": boxes, "labels": torch.from_numpy(sample.labels) + 1}
        image, target = self.transform(Image(torch.from_numpy(sample.image).permute(2, 0, 1)), target)
        return image, target | {"image_id": torch.tensor(sample.image_id)}


def reference_model(num_classes: int, weights: str) -> SSD:
    """Build what `ssdlite320_mobilenet_v3_large` builds, on MobileNetV2 with ImageNet weights.

    Args:
        num_classes: K, background not counted.
        weights: Of MobileNetV2, anything that `load_backbone_weights` takes.
    """
    ours = MobileNetV2()
    load_backbone_weights(ours, weights)
    trunk = mobilenet_v2(weights=None)
    # Both list their layers from the image on, so the order alone maps one to the other.
    values = [value for name, value in ours.state_dict().items() if not name.startswith("normalize.")]
    trunk.features.load_state_dict(dict(zip(trunk.features.state_dict(), values, strict=True)))
    for block in trunk.features[1:-1]:
        block.block = block.conv

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


def loader(dataset: Any, batch_size: int, train: bool) -> DataLoader[Sample]:
    """Batch as torchvision's reference does, in lists."""
    return DataLoader(
        ReferenceData(dataset, train),
        batch_size,
        shuffle=train,
        drop_last=train,
        num_workers=1,
        persistent_workers=True,
        collate_fn=as_lists,
    )


def as_lists(batch: Sequence[Sample]) -> tuple[list[Tensor], list[Target]]:
    """Return the images and the targets of a batch."""
    images, targets = zip(*batch, strict=True)
    return list(images), list(targets)


def train_step(model: SSD, optimizer: torch.optim.Optimizer, images: list[Tensor], targets: list[Target]) -> float:
    """One step of torchvision's `train_one_epoch`."""
    losses = torch.stack(list(model(images, targets).values())).sum()
    if not math.isfinite(losses.item()):
        raise RuntimeError(f"the reference's loss is {losses.item()}")
    optimizer.zero_grad()
    torch.autograd.backward(losses)
    optimizer.step()
    return float(losses.item())


@torch.inference_mode()
def score(model: SSD, batches: DataLoader[Sample], evaluator: Any) -> Any:
    """Score the reference with our evaluator."""
    model.eval()
    evaluator.collected.clear()
    for images, targets in batches:
        for target, found in zip(targets, model(images), strict=True):
            detections = Detections(*(found[name].numpy() for name in ("boxes", "scores", "labels")))
            evaluator.update(int(target["image_id"]), detections._replace(labels=detections.labels - 1))
    return evaluator.compute()


def train(cli: ConfigCLI, weights: str, output: Path) -> None:
    """Train the reference for the config's epochs and write a row per epoch, scored where the config scores."""
    data, epochs = cli.datamodule, int(cli.config.trainer.max_epochs)
    every = cli.config.trainer.check_val_every_n_epoch
    model = reference_model(len(data.class_names), weights)
    train_batches = loader(data.train_dataset, data.batch_size, train=True)
    val_batches = loader(data.val_dataset, data.batch_size, train=False)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=LEARNING_RATE * data.batch_size, momentum=0.9, weight_decay=WEIGHT_DECAY
    )
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / 1000, total_iters=min(1000, len(train_batches) - 1))
    evaluator = data.evaluator()
    output.mkdir(parents=True, exist_ok=True)
    started, rows = time.monotonic(), []
    for epoch in track(range(epochs), "Training"):
        model.train()
        losses = []
        for images, targets in train_batches:
            losses.append(train_step(model, optimizer, images, targets))
            if epoch == 0:
                warmup.step()
        cosine.step()
        row: dict[str, Any] = {"epoch": epoch, "train_loss": f"{statistics.fmean(losses):.5g}"}
        if (epoch + 1) % every == 0 or epoch + 1 == epochs:
            metrics = score(model, val_batches, evaluator)
            row |= {name: f"{getattr(metrics, name):.4f}" for name in ("AP", "AP50", "AP75")}
        rows.append(row | {"seconds": round(time.monotonic() - started)})
        with (output / "metrics.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["epoch", "seconds", "train_loss", "AP", "AP50", "AP75"])
            writer.writeheader()
            writer.writerows(rows)
        torch.save(model.state_dict(), output / "last.pth")
    print(f"torchvision's SSDLite: {rows[-1]}")


def evaluate(cli: ConfigCLI, weights: str, output: Path) -> None:
    """Score the reference that `train` wrote on the config's validation split."""
    data = cli.datamodule
    model = reference_model(len(data.class_names), weights)
    model.load_state_dict(torch.load(output / "last.pth", weights_only=True))
    metrics = score(model, loader(data.val_dataset, data.batch_size, train=False), data.evaluator())
    Console().print(*metrics.tables())


def endless(batches: DataLoader[Any]) -> Iterator[Any]:
    """Go through the batches again and again."""
    while True:
        yield from batches


def compare_times(cli: ConfigCLI, weights: str, rounds: int) -> None:
    """Alternate steps of both trainings, each with its own loader, and print the median seconds and their ratio."""
    data, task = cli.datamodule, cli.task
    if not isinstance(task, DetectionTask):
        raise InputError(f"{cli.path}: describes a {task.network.kind}; give the config of a detector")
    load_backbone_weights(task.network.backbone, weights)
    task.network.to(memory_format=torch.channels_last).train()
    own_optimizer = task.optimizer(list(task.network.parameters()))
    own_batches = endless(data.train_dataloader())
    reference = reference_model(len(data.class_names), weights).train()
    raw = data.read(data.train_split, None, train=True)
    optimizer = torch.optim.SGD(reference.parameters(), lr=1e-3, momentum=0.9, weight_decay=WEIGHT_DECAY)
    reference_batches = endless(loader(raw, data.batch_size, train=True))

    def own_step() -> None:
        batch = next(own_batches)
        terms = task.loss(task.network(batch.images), task.network.anchors, batch.targets)
        own_optimizer.zero_grad()
        (terms.classification + terms.localization).backward()
        torch.nn.utils.clip_grad_norm_(task.network.parameters(), 10.0)
        own_optimizer.step()

    def reference_step() -> None:
        train_step(reference, optimizer, *next(reference_batches))

    seconds: dict[str, list[float]] = {"mbdet": [], "torchvision": []}
    for index in track(range(rounds + 2), "Timing"):
        for name, step in (("mbdet", own_step), ("torchvision", reference_step)):
            started = time.perf_counter()
            step()
            if index >= 2:  # the first ones start the loaders and choose algorithms
                seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, median in medians.items():
        print(f"{name:12} {median:.3f} s per step of {data.batch_size} images, median of {rounds}")
    print(f"mbdet takes {medians['mbdet'] / medians['torchvision']:.2f} of torchvision's time")


def main() -> int:
    """Run one of the three."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("action", choices=["train", "evaluate", "time"])
    parser.add_argument("config", type=Path, help="a config of ours; any value of it can be overridden")
    parser.add_argument("--weights", required=True, help="of MobileNetV2, to start from")
    parser.add_argument("--output", type=Path, default=Path("runs/torchvision"), help="folder of the reference's run")
    parser.add_argument("--rounds", type=int, default=20, help="steps of each model that `time` takes")
    options, overrides = parser.parse_known_args()
    try:
        cli = ConfigCLI(options.config, overrides)
        pl.seed_everything(cli.config.seed_everything, verbose=False)
        cli.datamodule.setup("fit")
        if options.action == "time":
            compare_times(cli, options.weights, options.rounds)
        else:
            for dataset in (cli.datamodule.train_dataset, cli.datamodule.val_dataset):
                dataset.transform = None  # torchvision resizes inside its model
            action = train if options.action == "train" else evaluate
            action(cli, options.weights, options.output)
    except InputError as error:
        print(f"compare_torchvision: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
