"""Google's published MobileNetV1 classifier on real images whose main object is an ImageNet class too."""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mbdet.backbones import MobileNetV1
from mbdet.models import Classifier
from mbdet.weights import load_weights

# COCO's names, and the ImageNet classes (0 to 999) that may be meant by them.
CLASSES = {
    "airplane": {404, 726, 895},
    "banana": {954},
    "bear": {294, 295, 296, 297},
    "bed": {520, 564, 750, 831},
    "bird": set(range(7, 25)) | set(range(80, 101)) | set(range(127, 147)),
    "boat": {472, 484, 510, 554, 576, 625, 628, 724, 780, 814, 871, 914},
    "bus": {654, 779, 874},
    "car": {407, 436, 468, 511, 609, 627, 656, 661, 717, 751, 817},
    "cat": {281, 282, 283, 284, 285},
    "clock": {409, 530, 892},
    "cow": {345, 346, 347},
    "dog": set(range(151, 269)),
    "elephant": {101, 385, 386},
    "keyboard": {508, 878},
    "laptop": {620, 681},
    "microwave": {651},
    "motorcycle": {665, 670},
    "parking meter": {704},
    "pizza": {963},
    "refrigerator": {760},
    "sheep": {348, 349},
    "teddy bear": {850},
    "toilet": {861, 999},
    "train": {466, 547, 705, 820, 829},
    "truck": {555, 569, 675, 717, 864, 867},
    "umbrella": {879},
    "zebra": {340},
}
BACKGROUND = 1  # slots before the classes


def main_objects(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield the images in which one class takes most of what is annotated and a tenth of the whole, with its name."""
    for split in ("train2017", "val2017"):
        content = json.loads((root / "annotations" / f"instances_{split}.json").read_text())
        names = {category["id"]: category["name"] for category in content["categories"]}
        areas: dict[int, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        for annotation in content["annotations"]:
            areas[annotation["image_id"]][names[annotation["category_id"]]] += annotation["area"]
        for record in content["images"]:
            found = areas[record["id"]]
            name = max(found, key=lambda key: found[key], default="")
            if name in CLASSES and found[name] > max(
                0.8 * sum(found.values()), 0.1 * record["width"] * record["height"]
            ):
                yield root / split / record["file_name"], name


def central_crop(path: Path) -> Tensor:
    """Return the middle 7/8 of an image, 224 pixels wide and high, as slim evaluates."""
    image = Image.open(path).convert("RGB")
    width, height = image.size
    box = (width / 16, height / 16, width * 15 / 16, height * 15 / 16)
    return torch.from_numpy(np.array(image.resize((224, 224), Image.Resampling.BILINEAR, box))).permute(2, 0, 1)


@torch.no_grad()
def test_it_names_what_is_in_the_picture(real_data: Path) -> None:
    """42 and 56 of 65 when this was written; a slot too far would leave next to none."""
    network = Classifier(MobileNetV1(padding="same"), 1001).eval()
    load_weights(network, real_data / "weights" / "mobilenet_v1_1.0_224_float.npz")
    examples = list(main_objects(real_data / "coco"))
    logits = torch.cat([network(central_crop(path)[None]) for path, _ in examples])
    right = torch.tensor(
        [
            [index - BACKGROUND in CLASSES[name] for index in row.topk(5).indices.tolist()]
            for row, (_, name) in zip(logits, examples, strict=True)
        ]
    )
    top1, top5 = int(right[:, 0].sum()), int(right.any(1).sum())
    print(f"top-1 {top1}, top-5 {top5} of {len(examples)}")
    assert len(examples) >= 60
    assert top1 >= 0.58 * len(examples)
    assert top5 >= 0.80 * len(examples)
