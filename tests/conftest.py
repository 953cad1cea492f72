"""What tests share: real data where there is some, tiny data sets, and a tiny finished run."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from onnx_files import write_onnx
from PIL import Image, ImageDraw
from small_exports import NAMES, scenes, small_export

from mbdet.cli import main
from mbdet.data.shapes import CLASS_NAMES, make_shapes

CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder with the real `weights/` and `coco/`; skip the test where there is none."""
    root = Path(os.environ.get("MBDET_REAL_DATA", Path(__file__).parents[2] / "shared" / "real"))
    if not (root / "weights").is_dir():
        pytest.skip(f"no real data at {root}; point MBDET_REAL_DATA to it")
    return root


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a built-in set of 8 + 5 scenes."""
    return make_shapes(tmp_path_factory.mktemp("data") / "shapes", num_train=8, num_val=5)


@pytest.fixture(scope="session")
def coco80(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same scenes as if they were COCO 2017: its split names and its 80 classes."""
    root = tmp_path_factory.mktemp("coco")
    config = yaml.safe_load((CONFIGS / "ssdlite_v2_300_tf_coco.yaml").read_text())
    names = config["model"]["init_args"]["class_names"]
    (root / "annotations").mkdir()
    for split in ("train", "val"):
        content = json.loads((shapes / "annotations" / f"instances_{split}.json").read_text())
        content["categories"] = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
        (root / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))
        (root / f"{split}2017").symlink_to(shapes / split)
    return root


@pytest.fixture(scope="session")
def voc(shapes: Path) -> Callable[[Path, list[str]], Path]:
    """Return a function that writes the same scenes in VOC's layout, their shapes called by other names."""

    def write(root: Path, names: list[str]) -> Path:
        shutil.copytree(shapes / "VOC", root)
        for file in (root / "Annotations").iterdir():
            text = file.read_text()
            for shape, name in zip(CLASS_NAMES, names * len(CLASS_NAMES), strict=False):
                text = text.replace(f"<name>{shape}</name>", f"<name>{name}</name>")
            file.write_text(text)
        return root

    return write


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return folders of three classes, with 4 + 2 pictures of 64x48 pixels each: one shape, of one colour per class."""
    root = tmp_path_factory.mktemp("folders")
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for name, colour in (("circle", "red"), ("square", "lime"), ("triangle", "blue")):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                image = Image.fromarray(rng.integers(90, 160, (48, 64, 3), dtype=np.uint8))
                pen, (x, y), radius = ImageDraw.Draw(image), rng.integers((24, 20), (40, 28)), int(rng.integers(12, 18))
                if name == "circle":
                    pen.ellipse((x - radius, y - radius, x + radius, y + radius), colour)
                else:
                    pen.regular_polygon((int(x), int(y), radius), 4 if name == "square" else 3, fill=colour)
                image.save(root / split / name / f"{number}.png")
    return root


@pytest.fixture(scope="session")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return images with masks of the values 0 to 11, 4 + 2, in the layouts of CamVid and of Cityscapes."""
    root = tmp_path_factory.mktemp("masks")
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for number in range(count):
            image = Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
            mask = Image.fromarray(np.repeat(rng.integers(0, 12, (6, 8), dtype=np.uint8), 8, 0).repeat(8, 1))
            for picture, name in (
                (image, f"{split}/{number}.png"),
                (mask, f"{split}annot/{number}.png"),
                (image, f"leftImg8bit/{split}/town/town_{number}_leftImg8bit.png"),
                (mask, f"gtFine/{split}/town/town_{number}_gtFine_labelIds.png"),
            ):
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                picture.save(root / name)
    return root


@pytest.fixture(scope="session")
def small_onnx(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that writes an ONNX file of a task (see `small_exports`) once."""
    folder = tmp_path_factory.mktemp("models")

    def write(kind: str) -> Path:
        path = folder / f"{kind}.onnx"
        if not path.exists():
            write_onnx(small_export(kind), NAMES, path, scenes())
        return path

    return write


@pytest.fixture(scope="session")
def tiny_classes(image_folder: Path) -> list[str]:
    """Return overrides of configs/classify_v2.yaml for those folders and for a small network."""
    return [
        f"--data.root={image_folder}",
        "--data.num_workers=0",
        "--data.batch_size=6",
        "--data.input_size=[48,64]",
        "--model.network.input_size=[48,64]",
        "--model.network.num_classes=3",
        "--model.network.backbone.width_mult=0.35",
    ]


@pytest.fixture(scope="session")
def classifier_run(tiny_classes: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of two epochs on the folders of classes."""
    folder = tmp_path_factory.mktemp("runs") / "classes"
    options = ["--trainer.max_epochs=2", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    config = str(CONFIGS / "classify_v2.yaml")
    assert main(["train", config, "--run_dir", str(folder), *options, *tiny_classes]) == 0
    return folder


@pytest.fixture(scope="session")
def tiny() -> list[str]:
    """Return overrides that make the quick start's config quick."""
    return [
        "--data.num_train=8",
        "--data.num_val=5",
        "--data.num_workers=0",
        "--data.batch_size=4",
        "--model.network.backbone.width_mult=0.35",
        "--model.network.class_bias_init=0",  # scores that are worth drawing after two steps
        "--trainer.accelerator=cpu",
        "--trainer.check_val_every_n_epoch=1",
        "--trainer.enable_progress_bar=false",
    ]


@pytest.fixture(scope="session")
def run(shapes: Path, tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of two epochs on the shapes."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    options = ["--run_dir", str(folder), f"--data.root={shapes}", "--trainer.max_epochs=2", *tiny]
    assert main(["train", str(CONFIGS / "ssdlite_v2_shapes.yaml"), *options]) == 0
    return folder
