"""Train torchvision's reference SSDLite on a detection data set, beside a model of ours; on the CPU.

The reference is what `references/detection/train.py --data-augmentation ssdlite` trains, written after it:
torchvision's model, loss, transforms, optimiser and schedule, and the steps of its loop. Two things differ so that both
sides start from the same weights: the backbone is MobileNetV2 (torchvision builds SSDLite on V3 only; its extractor
takes V2 once a block's layers go by V3's name), and batch norms and normalisation are those of the weights instead of
SSDLite's. The learning rate is scaled with the batch.

    python tools/compare_torchvision.py train CONFIG --weights FILE --output FOLDER --data.root DIR
    python tools/compare_torchvision.py evaluate CONFIG --weights FILE --output FOLDER --data.root DIR
    python tools/compare_torchvision.py time CONFIG --weights FILE --data.root DIR

CONFIG is one of ours: it names the data, the batch, the workers and the epochs. `train` trains the reference on them
and scores it with mbdet's evaluator, `evaluate` does so on another split; `time` trains both for some epochs in turn,
each by its own command, and prints how long they take.
"""

import argparse
import csv
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning.pytorch as pl
import torch
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
from mbdet.commands.evaluate import show
from mbdet.config import ConfigCLI
from mbdet.errors import InputError
from mbdet.runtime.types import Detections
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


def loader(dataset: Any, data: Any, train: bool) -> DataLoader[Sample]:
    """Batch as torchvision's reference does, in lists, with the batch size and workers of a data module of ours."""
    return DataLoader(
        ReferenceData(dataset, train),
        data.batch_size,
        shuffle=train,
        drop_last=train,
        num_workers=data.num_workers,
        persistent_workers=data.num_workers > 0,
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
    data, epochs = cli.datamodule, cli.config.trainer.max_epochs
    if epochs is None:
        raise InputError(f"{cli.path}: does not say for how many epochs; give --trainer.max_epochs")
    every = cli.config.trainer.check_val_every_n_epoch
    model = reference_model(len(data.class_names), weights)
    train_batches = loader(data.train_dataset, data, train=True)
    val_batches = loader(data.val_dataset, data, train=False)
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
    metrics = score(model, loader(data.val_dataset, data, train=False), data.evaluator())
    show(metrics, {"images": len(data.val_dataset)}, output / "figures.json")


def compare_times(config: Path, overrides: Sequence[str], weights: str, rounds: int, epochs: int) -> None:
    """Train both in turn, each by its own command, and print the seconds that their own tables state.

    Args:
        config: One of ours.
        overrides: Its overrides.
        weights: To start from.
        rounds: How often each is trained.
        epochs: For how long, with one validation at the end.
    """
    tools = Path(__file__).parent
    length = [f"--trainer.max_epochs={epochs}", f"--trainer.check_val_every_n_epoch={epochs}"]
    ours = [str(tools / "train.py"), str(config), f"--model.backbone_weights={weights}", "--trainer.accelerator=cpu"]
    ours += ["--trainer.enable_progress_bar=false", *overrides, *length]
    reference = [__file__, "train", str(config), "--weights", weights, *overrides, *length]
    seconds: dict[str, list[float]] = {"mbdet": [], "torchvision": []}
    for _ in track(range(rounds), "Timing"):
        for name, command, option in (("mbdet", ours, "--run_dir"), ("torchvision", reference, "--output")):
            with TemporaryDirectory() as folder:
                run = Path(folder) / "run"
                subprocess.run([sys.executable, *command, option, str(run)], check=True, capture_output=True)
                with (run / "metrics.csv").open() as file:
                    *_, row = csv.DictReader(file)
                seconds[name].append(float(row["seconds"]))
    for name, values in seconds.items():
        listed = ", ".join(f"{value:.1f}" for value in values)
        print(f"{name:12} {statistics.median(values):.1f} s for {epochs} epochs and a validation (median of {listed})")
    ratio = statistics.median(seconds["mbdet"]) / statistics.median(seconds["torchvision"])
    print(f"mbdet takes {ratio:.2f} of torchvision's time, with {torch.get_num_threads()} threads")


def main() -> int:
    """Run one of the three."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("action", choices=["train", "evaluate", "time"])
    parser.add_argument("config", type=Path, help="a config of ours; any value of it can be overridden")
    parser.add_argument("--weights", required=True, help="of MobileNetV2, to start from")
    parser.add_argument("--output", type=Path, default=Path("runs/torchvision"), help="folder of the reference's run")
    parser.add_argument("--rounds", type=int, default=3, help="how often `time` trains each (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=2, help="for how long (default: %(default)s)")
    options, overrides = parser.parse_known_args()
    try:
        if options.action == "time":
            compare_times(options.config, overrides, options.weights, options.rounds, options.epochs)
            return 0
        cli = ConfigCLI(options.config, overrides)
        pl.seed_everything(cli.config.seed_everything, verbose=False)
        cli.datamodule.setup("fit")
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
