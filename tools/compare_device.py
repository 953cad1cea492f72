"""Time exported files beside torchvision's eager detector, from a decoded image to the final boxes; on the CPU.

    python tools/compare_device.py --images FOLDER --output FOLDER [--files onnx:fp32 openvino:int8 executorch:int8]

Both sides are SSDLite on MobileNetV3-Large at 320x320 with COCO's classes and the same weights, and have the config's
thresholds of score and IoU, which are torchvision's. It is timed twice. As it comes, it takes up to 300 candidates of
each class to the suppression and gives up to 300 boxes of an image, where COCO's protocol counts 100. With the same
caps, it gives as many boxes as the config's, and its cap of the candidates of a class is our cap of those of an image,
divided by the classes, so that neither side has more of them.

The weights are random, as time does not depend on what they have learned, but for how many candidates reach the
suppression. So the bias of the background is set such that in the median picture a share of the pairs of anchor and
class passes the score threshold, and everything is timed for several shares. What it is for a trained network of this
kind is not known here: of Google's SSDLite on MobileNetV2, whose scores are sigmoids, 8 % pass 0.001 in the median of
100 images of COCO val2017 (a slow test counts them).

The int8 files are calibrated on the images. As random weights find nothing, the files are not verified here: `mbdet
export` does that, and `mbdet benchmark formats` scores them.
"""

import argparse
import copy
import json
import math
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torchvision.models.detection import ssdlite320_mobilenet_v3_large
from torchvision.ops import box_iou

from mbdet.config import ConfigCLI
from mbdet.errors import InputError
from mbdet.export.base import Form
from mbdet.export.format import Order, check_order
from mbdet.export.formats import find_format
from mbdet.ops import Postprocess
from mbdet.runtime.image import image_files, read_image, resize
from mbdet.runtime.load import load_file
from mbdet.runtime.model_file import description_beside
from mbdet.runtime.predictor import Predictor
from mbdet.runtime.timing import in_turns
from mbdet.tasks import DetectionTask
from mbdet.weights import load_weights
from mbdet.weights.coco_slots import NUM_SLOTS, UNUSED_COCO_IDS

SIZE = (320, 320)
FILES = ("onnx:fp32", "openvino:fp32", "openvino:int8", "executorch:int8")
USED = [slot for slot in range(1, NUM_SLOTS) if slot not in UNUSED_COCO_IDS]
CONFIG = Path(__file__).parents[1] / "configs" / "ssdlite_v3_large_tv_coco.yaml"


def make_reference(images: Tensor, postprocess: Postprocess) -> tuple[nn.Module, Tensor]:
    """Return torchvision's model with weights and caps as the module says, and what it says of the images.

    Args:
        images: (B, 3, H, W) in [0, 1], for statistics of the batch norms.
        postprocess: What ours does.

    Returns:
        The model, and its class logits (B, A, 91) without biases.
    """
    torch.manual_seed(0)
    model: Any = ssdlite320_mobilenet_v3_large(
        weights=None,
        weights_backbone=None,
        score_thresh=postprocess.score_threshold,
        nms_thresh=postprocess.iou_threshold,
        detections_per_img=postprocess.max_detections,
        topk_candidates=math.ceil(postprocess.max_candidates / len(USED)),
    )
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # the mean over all batches
    head = model.head.classification_head
    with torch.no_grad():
        for module in head.module_list:
            nn.init.normal_(module[-1].weight, std=0.05)
            nn.init.zeros_(module[-1].bias)
        inputs = model.transform(list(images))[0].tensors
        head.train()
        features = model.backbone.train()(inputs)
        head(list(features.values()))
        model.eval()
        return model, head(list(model.backbone(inputs).values()))


def as_it_comes(model: Any) -> nn.Module:
    """Return the model, on the same weights, with torchvision's own caps."""
    default = copy.copy(model)
    default.detections_per_img, default.topk_candidates = 300, 300
    return default  # type: ignore[no-any-return]  # torchvision's classes are loosely typed here


def set_share(model: Any, logits: Tensor, share: float) -> None:
    """Let a share of the pairs of anchor and class pass the score threshold in the median picture.

    Pictures differ much, and it is the median time that is reported.

    Args:
        model: The reference.
        logits: (B, A, 91) without biases.
        share: As a fraction.
    """
    low, high = -20.0, 40.0
    for _ in range(40):
        middle = (low + high) / 2
        passing = (scores_of(logits, middle) > model.score_thresh).float().mean(dim=(1, 2))
        low, high = (middle, high) if float(passing.quantile(0.5)) > share else (low, middle)
    with torch.no_grad():
        for module in model.head.classification_head.module_list:
            bias = module[-1].bias.view(-1, NUM_SLOTS)
            bias[:, 0] = middle
            bias[:, list(UNUSED_COCO_IDS)] = -torch.inf  # ours has no such classes


def scores_of(logits: Tensor, background: float) -> Tensor:
    """Return the scores (B, A, 80) of the used classes.

    Args:
        logits: (B, A, 91) without biases.
        background: The bias of the background.
    """
    logits = logits[..., [0, *USED]]
    logits[..., 0] += background
    return logits.softmax(-1)[..., 1:]


def load_ours(cli: ConfigCLI, reference: nn.Module) -> None:
    """Give our network the reference's weights: torchvision counts 91 classes, of which COCO has 80."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "reference.pth"
        torch.save(reference.state_dict(), path)
        load_weights(cli.task.network, path)


def write(cli: ConfigCLI, names: list[str], output: Path, images: NDArray[np.uint8]) -> dict[str, Path]:
    """Write the files, unverified.

    Args:
        cli: With the weights loaded.
        names: Format and precision of each, such as "onnx:int8".
        output: Folder for them.
        images: (B, 3, H, W) to calibrate on.
    """
    output.mkdir(parents=True, exist_ok=True)
    files: dict[str, Path] = {}
    for name in names:
        kind, _, precision = name.partition(":")
        target = find_format(kind)
        order = Order(
            cli.task.export().eval(),
            Form(target.nms),
            cli.task.names,
            precision or "fp32",  # type: ignore[arg-type]  # `check_order` knows which there are
            calibration=images if precision == "int8" else None,
        )
        check_order(target, order)
        path = output / f"ssdlite_v3_large_{precision or 'fp32'}{target.suffix}"
        description = order.describe() | target.write(order, path)
        description_beside(path).write_text(json.dumps(description))
        files[name] = path
    return files


def main() -> int:
    """Export, time, and print a table of ratios."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        epilog="Any value of the config can be overridden: --model.postprocess.max_candidates 1000.",
        allow_abbrev=False,
    )
    parser.add_argument("--images", type=Path, required=True, help="pictures of any size")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="where the files go")
    parser.add_argument("--files", nargs="+", default=FILES)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument(
        "--passing",
        nargs="+",
        type=float,
        default=(0.005, 0.02, 0.07),
        metavar="SHARE",
        help="shares of the pairs of anchor and class that pass the score threshold (default: 0.005 0.02 0.07)",
    )
    options, overrides = parser.parse_known_args()
    try:
        compare(options, overrides)
    except InputError as error:
        print(f"compare_device: error: {error}", file=sys.stderr)
        return 2
    return 0


def compare(options: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Do it, with the options of the command and what they override of the config.

    Raises:
        InputError: If they make no sense, or a file cannot be written.
    """
    if min(options.threads, options.rounds) < 1 or not all(0 < share < 1 for share in options.passing):
        raise InputError("--threads and --rounds are numbers from 1 up, --passing are fractions between 0 and 1")
    torch.set_num_threads(options.threads)
    pictures = [read_image(path) for path in image_files(options.images)[:8]]
    prepared = np.stack([resize(picture, SIZE) for picture in pictures]).transpose(0, 3, 1, 2)
    cli = ConfigCLI(CONFIG, overrides)
    assert isinstance(cli.task, DetectionTask)
    ours = cli.task.postprocess
    reference, logits = make_reference(torch.from_numpy(prepared).float() / 255, ours)
    print(
        f"all: score over {ours.score_threshold:g}, NMS at IoU {ours.iou_threshold:g}\n"
        f"ours: {ours.max_candidates} candidates of an image, {ours.max_detections} boxes\n"
        "torchvision as it comes: 300 candidates of each class, 300 boxes\n"
        f"torchvision with the same caps: {reference.topk_candidates} candidates of each class,"
        f" {reference.detections_per_img} boxes\n"
        f"{options.threads} thread(s), {options.rounds} rounds in turns, {len(pictures)} pictures"
    )
    sides = {"as it comes": as_it_comes(reference), "same caps": reference}
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    titles = (
        "passing",
        "torchvision",
        "file",
        "candidates",
        "torchvision ms",
        "file ms",
        "ratio",
        "of least",
        "same boxes",
    )
    for title in titles:
        table.add_column(title, justify="left" if title in ("torchvision", "file") else "right", no_wrap=True)
    for share in options.passing:
        set_share(reference, logits, share)
        load_ours(cli, reference)
        files = write(cli, options.files, options.output / f"passing_{share:g}", prepared)
        predictors = [load_file(path, "cpu", options.threads) for path in files.values()]
        runs: list[Callable[[int], object]] = [
            *(partial(detect_eagerly, side, pictures) for side in sides.values()),
            *(partial(detect, predictor, pictures) for predictor in predictors),
        ]
        times = in_turns(runs, options.rounds) * 1000
        for (side, model), theirs in zip(sides.items(), times, strict=False):
            candidates = " / ".join(f"{count:.0f}" for count in count_candidates(model, ours, prepared))
            for name, predictor, own in zip(files, predictors, times[len(sides) :], strict=True):
                table.add_row(
                    f"{share:.1%}",
                    side,
                    name,
                    candidates,
                    f"{np.median(theirs):.1f}",
                    f"{np.median(own):.1f}",
                    f"{np.median(theirs) / np.median(own):.2f}",
                    f"{theirs.min() / own.min():.2f}",
                    f"{same_boxes(model, predictor, prepared):.0%}",
                )
        del predictors, runs  # open ExecuTorch files hold on to their threads
    Console(width=120).print(table)
    print(
        "candidates: torchvision's / ours; ratio: of the medians; same boxes: of torchvision's, those that the file\n"
        "finds too, of the same class with an IoU over 0.9 (random scores lie close together, so int8 takes others)"
    )


def detect_eagerly(model: nn.Module, pictures: Sequence[NDArray[np.uint8]], turn: int) -> dict[str, Tensor]:
    """Run torchvision's model on one picture (H, W, 3)."""
    picture = torch.from_numpy(pictures[turn % len(pictures)]).permute(2, 0, 1)
    with torch.inference_mode():
        (found,) = model([picture.float() / 255])
    return found  # type: ignore[no-any-return]  # as torchvision documents it


def detect(predictor: Predictor[Any], pictures: Sequence[NDArray[np.uint8]], turn: int) -> Any:
    """Run a file on one picture (H, W, 3)."""
    return predictor(pictures[turn % len(pictures)], score_threshold=0.0)


def count_candidates(model: Any, postprocess: Postprocess, images: NDArray[np.uint8]) -> tuple[float, float]:
    """Return how many pairs of the median picture reach torchvision's suppression and ours.

    Args:
        model: The reference.
        postprocess: What ours does.
        images: (B, 3, H, W).
    """
    with torch.inference_mode():
        inputs = model.transform(list(torch.from_numpy(images).float() / 255))[0].tensors
        logits = model.head.classification_head(list(model.backbone(inputs).values()))
        of_classes = (logits.softmax(-1)[..., 1:] > model.score_thresh).sum(dim=1).float()
    theirs = of_classes.clamp(max=model.topk_candidates).sum(dim=1)
    ours = of_classes.sum(dim=1).clamp(max=postprocess.max_candidates)
    return float(theirs.quantile(0.5)), float(ours.quantile(0.5))


def same_boxes(model: nn.Module, predictor: Predictor[Any], images: NDArray[np.uint8]) -> float:
    """Return the share of torchvision's boxes that a file finds too.

    Args:
        model: The reference.
        predictor: The file.
        images: (B, 3, H, W) of the network's size, as each side resizes in its own way.
    """
    pictures = list(images.transpose(0, 2, 3, 1))
    found, total = 0, 0
    for turn in range(len(pictures)):
        theirs, ours = detect_eagerly(model, pictures, turn), detect(predictor, pictures, turn)
        labels = torch.tensor(USED)[torch.from_numpy(ours.labels)]
        close = box_iou(theirs["boxes"], torch.from_numpy(ours.boxes)) > 0.9
        found += int((close & (theirs["labels"][:, None] == labels)).any(dim=1).sum())
        total += len(close)
    return found / max(total, 1)


if __name__ == "__main__":
    sys.exit(main())
