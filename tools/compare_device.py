"""Time exported files beside torchvision's eager detector, from a decoded image to the final boxes; on the CPU.

    python tools/compare_device.py --images FOLDER --output FOLDER [--files onnx:fp32 openvino:int8 executorch:int8]

Both sides are SSDLite on MobileNetV3-Large at 320x320 with COCO's classes and the same weights. They are random, as
time does not depend on what they have learned, but for how many boxes reach the suppression. So the bias of the
background is set such that a share of the pairs of anchor and class passes 0.001, the score threshold of torchvision's
model, which is ours too: by default 7 %, as of Google's SSDLite on MobileNetV2 on images of COCO val2017. The int8
files are calibrated on the images. As random weights find nothing, the files are not verified here: `mbdet export`
does that, and `mbdet benchmark formats` scores them.
"""

import argparse
import json
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

from mbdet.commands.export import comparison_images
from mbdet.config import ConfigCLI
from mbdet.errors import InputError
from mbdet.export.base import Form
from mbdet.export.format import Order, check_order
from mbdet.export.formats import find_format
from mbdet.runtime.image import image_files, read_image, resize
from mbdet.runtime.load import load_file
from mbdet.runtime.model_file import description_beside
from mbdet.runtime.predictor import Predictor
from mbdet.runtime.timing import in_turns
from mbdet.weights import load_weights

SIZE = (320, 320)
FILES = ("onnx:fp32", "openvino:fp32", "openvino:int8", "executorch:int8")
CONFIG = Path(__file__).parents[1] / "configs" / "ssdlite_v3_large_tv_coco.yaml"


def make_reference(images: Tensor, passing: float) -> nn.Module:
    """Return torchvision's model with weights as the module says.

    Args:
        images: (B, 3, H, W) in [0, 1], for statistics of the batch norms.
        passing: Share of the pairs of anchor and class that pass its score threshold.
    """
    torch.manual_seed(0)
    model: Any = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # the mean over all batches
    head = model.head.classification_head
    with torch.no_grad():
        for module in head.module_list:
            nn.init.normal_(module[-1].weight, std=0.05)
        head.train()
        model.backbone.train()
        features = list(model.backbone(model.transform(list(images))[0].tensors).values())
        head(features)
        logits = head.eval()(list(model.backbone.eval()(model.transform(list(images))[0].tensors).values()))
        low, high = -20.0, 40.0
        for _ in range(40):
            bias = (low + high) / 2
            shifted = logits.clone()
            shifted[..., 0] += bias
            share = float((shifted.softmax(-1)[..., 1:] > model.score_thresh).float().mean())
            low, high = (bias, high) if share > passing else (low, bias)
        for module in head.module_list:
            module[-1].bias.view(-1, logits.shape[-1])[:, 0] += bias
    model.eval()
    return model  # type: ignore[no-any-return]  # a module; loosely typed above for its parts


def load_ours(reference: nn.Module) -> ConfigCLI:
    """Return our config with the reference's weights: torchvision counts 91 classes, of which COCO has 80."""
    # The usual number of candidates; the config has more, so that its evaluation equals torchvision's.
    cli = ConfigCLI(CONFIG, ["--model.postprocess.max_candidates=1000"])
    with TemporaryDirectory() as folder:
        path = Path(folder) / "reference.pth"
        torch.save(reference.state_dict(), path)
        load_weights(cli.task.network, path)
    return cli


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
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="pictures of any size")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="where the files go")
    parser.add_argument("--files", nargs="+", default=FILES)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--passing", type=float, default=0.07, help="share of the pairs (default: %(default)s)")
    options = parser.parse_args()
    try:
        compare(options)
    except InputError as error:
        print(f"compare_device: error: {error}", file=sys.stderr)
        return 2
    return 0


def compare(options: argparse.Namespace) -> None:
    """Do it, with the options of the command."""
    torch.set_num_threads(options.threads)
    pictures = [read_image(path) for path in image_files(options.images)[:8]]
    prepared = comparison_images(options.images, None, partial(resize, size=SIZE), SIZE)
    reference = make_reference(torch.from_numpy(prepared).float() / 255, options.passing)
    cli = load_ours(reference)
    files = write(cli, options.files, options.output, prepared)

    predictors = [load_file(path, "cpu", options.threads) for path in files.values()]
    runs: list[Callable[[int], int]] = [
        partial(detect_eagerly, reference, pictures),
        *(partial(detect, predictor, pictures) for predictor in predictors),
    ]
    counts = [np.mean([run(turn) for turn in range(len(pictures))]) for run in runs]
    seconds = in_turns(runs, options.rounds)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("", "boxes", "median ms", "least ms", "times faster", "middle half of the rounds"):
        table.add_column(title, justify="right" if title else "left")
    for name, count, times in zip(["torchvision, eager", *files], counts, seconds, strict=True):
        low, middle, high = np.quantile(seconds[0] / times, (0.25, 0.5, 0.75))
        table.add_row(
            name,
            f"{count:.0f}",
            f"{np.median(times) * 1000:.1f}",
            f"{times.min() * 1000:.1f}",
            f"{middle:.2f}",
            f"{low:.2f} to {high:.2f}",
        )
    Console(width=100).print(table)
    print(f"{options.threads} thread(s), {options.rounds} rounds in turns, {len(pictures)} pictures")


def detect_eagerly(model: nn.Module, pictures: Sequence[NDArray[np.uint8]], turn: int) -> int:
    """Run torchvision's model on one picture (H, W, 3) and return the number of boxes."""
    picture = torch.from_numpy(pictures[turn % len(pictures)]).permute(2, 0, 1)
    with torch.inference_mode():
        (found,) = model([picture.float() / 255])
    return len(found["boxes"])


def detect(predictor: Predictor[Any], pictures: Sequence[NDArray[np.uint8]], turn: int) -> int:
    """Run a file on one picture (H, W, 3) and return the number of boxes."""
    return len(predictor(pictures[turn % len(pictures)], score_threshold=0.0).boxes)


if __name__ == "__main__":
    sys.exit(main())
