"""The segmentation task: that it learns, scores at the original resolution, and what it refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from quiet_trainer import trainer
from torchmetrics.classification import MulticlassJaccardIndex

from mbdet.backbones import MobileNetV2
from mbdet.config import ConfigCLI
from mbdet.data import FolderSegmentationDataModule, SegmentationAugmentation
from mbdet.errors import InputError
from mbdet.models import LRASPP, DeepLabV3
from mbdet.ops import SegmentationLoss
from mbdet.runtime.image import Resizing
from mbdet.tasks import SegmentationTask

SIZE = (48, 64)
NAMES = ["ground", "red", "blue"]


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return 9 training and 5 validation images of odd sizes: a red and a blue rectangle on noise, borders ignored."""
    root = tmp_path_factory.mktemp("blobs")
    rng = np.random.default_rng(0)
    for split, count in (("train", 9), ("val", 5)):
        for number in range(count):
            height, width = 50 + 7 * number, 90 - 5 * number
            image = rng.integers(80, 170, (height, width, 3), dtype=np.uint8)
            mask = np.zeros((height, width), dtype=np.uint8)
            for label, colour in ((1, (230, 30, 30)), (2, (30, 30, 230))):
                top, left = rng.integers(0, height // 2), rng.integers(0, width // 2)
                place = slice(top, top + height // 2), slice(left, left + width // 3)
                image[place], mask[place] = colour, label
            mask[:2] = 255
            for folder, pixels in ((split, image), (f"{split}annot", mask)):
                (root / folder).mkdir(exist_ok=True)
                Image.fromarray(pixels).save(root / folder / f"{number}.png")
    return root


def data_of(root: Path, **options: Any) -> FolderSegmentationDataModule:
    augmentation = SegmentationAugmentation(min_scale=1.0, max_scale=1.25, photometric=0.0)
    settings = {"batch_size": 4, "num_workers": 0, "augmentation": augmentation, **options}
    return FolderSegmentationDataModule(str(root), SIZE, NAMES, **settings)


def task(num_classes: int = 3, **options: Any) -> SegmentationTask:
    torch.manual_seed(0)
    network = LRASPP(MobileNetV2(0.35, last_channels=None, bn_momentum=0.5), num_classes, SIZE, channels=16)
    return SegmentationTask(network, lambda parameters: torch.optim.AdamW(parameters, lr=0.01), **options)


@pytest.fixture(scope="module")
def trained(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[SegmentationTask, dict[str, float]]:
    """Return a task after 30 epochs, and its figures."""
    model, fit = task(), trainer(tmp_path_factory.mktemp("fit"), max_epochs=30, check_val_every_n_epoch=30)
    fit.fit(model, data_of(blobs))
    return model, {name: float(value) for name, value in fit.callback_metrics.items()}


def test_learns_two_colours(trained: tuple[SegmentationTask, dict[str, float]]) -> None:
    model, figures = trained
    assert model.class_names == tuple(NAMES)
    assert figures["mIoU"] > 0.7
    assert figures["pixel_accuracy"] > 0.9
    assert figures["train_loss"] < 0.4


@pytest.mark.parametrize("resizing", ["stretch", "fit", "pad"])
def test_validation_is_what_the_predictor_and_torchmetrics_say_of_the_original_images(
    trained: tuple[SegmentationTask, dict[str, float]], blobs: Path, tmp_path: Path, resizing: Resizing
) -> None:
    model = task(resizing=resizing)
    model.network.load_state_dict(trained[0].network.state_dict())
    data = data_of(blobs, resizing=resizing, batch_size=2)
    (figures,) = trainer(tmp_path).validate(model, data, verbose=False)
    predictor, metric = model.predictor("cpu"), MulticlassJaccardIndex(3, ignore_index=255)
    for file in sorted((blobs / "val").iterdir()):
        truth = np.asarray(Image.open(blobs / "valannot" / file.name))
        found = predictor(file)
        assert found.classes.shape == truth.shape
        assert found.classes.dtype == np.uint8
        metric.update(torch.from_numpy(found.classes)[None], torch.from_numpy(truth)[None].long())
    assert figures["mIoU"] == pytest.approx(metric.compute().item(), abs=1e-6)
    assert figures["mIoU"] > 0.6


def test_a_threshold_leaves_the_unsure_pixels_out(
    trained: tuple[SegmentationTask, dict[str, float]], blobs: Path
) -> None:
    predictor, file = trained[0].predictor("cpu"), blobs / "val" / "0.png"
    plain, strict = predictor(file), predictor(file, 0.9)
    assert plain.scores is not None
    assert plain.classes.max() <= 2
    assert np.array_equal(strict.classes == 255, plain.scores < 0.9)
    assert 0 < (strict.classes == 255).mean() < 1


def test_several_scales_and_mirrored_average_probabilities(
    trained: tuple[SegmentationTask, dict[str, float]], blobs: Path
) -> None:
    network = trained[0].network
    images = torch.randint(256, (1, 3, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    small = torch.nn.functional.interpolate(images.float(), (36, 48), mode="bilinear", antialias=True)
    with torch.inference_mode():
        whole = network(images).logits.softmax(1)
        turned = network(images.flip(3)).logits.softmax(1).flip(3)
        scaled = torch.nn.functional.interpolate(network(small).logits.softmax(1), SIZE, mode="bilinear")
        flipped = network(small.flip(3)).logits.softmax(1).flip(3)
        scaled_flipped = torch.nn.functional.interpolate(flipped, SIZE, mode="bilinear")
        model = task(test_scales=[1.0, 0.75], test_flip=True)
        model.network.load_state_dict(network.state_dict())
        found = model.predictor("cpu").probabilities(images)
    torch.testing.assert_close(found, (whole + turned + scaled + scaled_flipped) / 4)
    torch.testing.assert_close(found.sum(1), torch.ones(1, *SIZE))


@pytest.mark.parametrize("aux", [None, "c4"])
def test_a_last_batch_of_one_image_is_trained(blobs: Path, tmp_path: Path, aux: str | None) -> None:
    torch.manual_seed(0)
    network = DeepLabV3(MobileNetV2(0.35, last_channels=None), 3, SIZE, channels=8, aux=aux)
    model = SegmentationTask(network, lambda parameters: torch.optim.SGD(parameters, lr=0.01))
    fit = trainer(tmp_path, max_epochs=1, limit_train_batches=2, limit_val_batches=0)
    fit.fit(model, data_of(blobs, batch_size=1))
    assert fit.global_step == 2
    assert np.isfinite(float(fit.callback_metrics["train_loss"]))
    assert all(value.isfinite().all() for value in network.state_dict().values())


def test_unreadable_validation_images_are_left_out(blobs: Path, tmp_path: Path) -> None:
    model, data = task(), data_of(blobs, batch_size=1, on_error="skip")
    data.setup("validate")
    file = data.val_dataset.file
    data.val_dataset.file = lambda index: blobs / "none.png" if index == 0 else file(index)  # type: ignore[method-assign]
    (figures,) = trainer(tmp_path).validate(model, data, verbose=False)
    assert model.metrics is not None
    pixels = sum(values["pixels"] for values in model.metrics.to_json()["per_class"].values())
    readable = [np.asarray(Image.open(blobs / "valannot" / f"{number}.png")) for number in range(1, 5)]
    assert pixels == sum(int((mask != 255).sum()) for mask in readable)
    assert np.isfinite(figures["val_loss"])


def test_other_ways_to_the_network_input_are_refused(blobs: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.resizing is pad, but model\.resizing is stretch"):
        trainer(tmp_path).validate(task(), data_of(blobs, resizing="pad"), verbose=False)


def test_another_number_of_classes_is_refused(blobs: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="background, where the data has one, counts"):
        trainer(tmp_path).validate(task(4), data_of(blobs), verbose=False)
    with pytest.raises(InputError, match="class_weights has 2 numbers"):
        task(loss=SegmentationLoss([1.0, 2.0]))


@pytest.mark.parametrize("scales", [[], [0.0], [1.0, -1.0]])
def test_scales_out_of_range(scales: list[float]) -> None:
    with pytest.raises(InputError, match="give one or more numbers above 0"):
        task(test_scales=scales).predictor("cpu")


def test_losses_and_scales_of_a_config(blobs: Path) -> None:
    pytest.importorskip("segmentation_models_pytorch", reason="needs mbdet[losses]")
    overrides = [
        "--model.loss.hard_probability=0.7",
        "--model.loss.class_weights=[1,2,3]",
        "--model.loss.extra=segmentation_models_pytorch.losses.LovaszLoss",
        "--model.loss.extra.mode=multiclass",
        "--model.loss.extra.ignore_index=255",
        "--model.test_scales=[0.75,1.0]",
        "--model.test_flip=true",
        "--model.network.num_classes=3",
    ]
    built = ConfigCLI(Path(__file__).parents[2] / "configs" / "lraspp_v3_small_camvid.yaml", overrides).task
    assert isinstance(built, SegmentationTask)
    assert type(built.loss.extra).__name__ == "LovaszLoss"
    assert built.loss.hard_probability == 0.7
    assert built.loss.class_weights is not None
    assert built.loss.class_weights.tolist() == [1, 2, 3]
    predictor = built.predictor("cpu")
    assert (predictor.test_scales, predictor.test_flip) == ((0.75, 1.0), True)
    data = data_of(blobs)
    data.setup("validate")
    with pytest.raises(InputError, match="an exported file tests each image once"):
        built.check_predictor(task(class_names=NAMES).predictor("cpu"), data)
