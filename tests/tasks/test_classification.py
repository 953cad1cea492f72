"""The classification task: its loss, its groups of parameters, and that it learns."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from quiet_trainer import trainer
from torch import nn

from mbdet.backbones import MobileNetV2
from mbdet.data import CropAugmentation, ImageFolderDataModule
from mbdet.errors import InputError
from mbdet.models import Classifier
from mbdet.predictor import to_classifications
from mbdet.tasks import ClassificationTask, ExponentialDecay


def task(num_classes: int = 2, **options: object) -> ClassificationTask:
    torch.manual_seed(0)
    network = Classifier(MobileNetV2(0.35, bn_momentum=0.5), num_classes, (32, 32), dropout=0.0)
    return ClassificationTask(network, lambda parameters: torch.optim.SGD(parameters, lr=0.1), **options)


def test_loss_by_hand() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]))
    labels = torch.tensor([0, 1])
    plain = -(np.log(0.5) + np.log(0.8)) / 2
    assert task(3).loss(logits, labels).item() == pytest.approx(plain)
    spread = -(np.log([0.5, 0.25, 0.25]).mean() + np.log([0.1, 0.8, 0.1]).mean()) / 2
    smoothed = task(3, label_smoothing=0.1).loss(logits, labels).item()
    assert smoothed == pytest.approx(0.9 * plain + 0.1 * spread)
    assert task(3).loss(logits[:0], labels[:0]).item() == 0.0


def test_likeliest_classes_of_logits() -> None:
    first, second = to_classifications(torch.tensor([[0.0, 3, 2, 1, -1, -2], [6.0, 0, 0, 0, 0, 9]]))
    assert first.labels.tolist() == [1, 2, 3, 0, 4]
    assert second.labels[:2].tolist() == [5, 0]
    assert first.scores[0] == pytest.approx(np.exp(3) / np.exp([0, 3, 2, 1, -1, -2]).sum(), rel=1e-5)
    (few,) = to_classifications(torch.zeros(1, 3, dtype=torch.bfloat16))
    np.testing.assert_allclose(few.scores, 1 / 3)


@pytest.mark.parametrize("decay_depthwise", [False, True])
def test_weight_decay_leaves_norms_biases_and_depthwise_kernels_alone(decay_depthwise: bool) -> None:
    model = task(decay_depthwise=decay_depthwise)
    decayed, others = model._parameter_groups()
    assert len(decayed) + len(others) == len(list(model.parameters()))
    depthwise = [layer.weight for layer in model.modules() if isinstance(layer, nn.Conv2d) and layer.groups > 1]
    assert len(depthwise) == 17
    assert all(any(weight is other for other in decayed) == decay_depthwise for weight in depthwise)
    assert any(model.network.logits.weight is other for other in decayed)
    assert any(model.network.logits.bias is other for other in others)
    assert all(parameter.ndim > 1 for parameter in decayed)


def test_learns_two_colours(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 8)):
        for name, colour in (("blue", (40, 60, 190)), ("red", (190, 60, 40))):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(count):
                noise = rng.normal(colour, 40, (40, 40, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(noise).save(tmp_path / split / name / f"{number}.png")
    augmentation = CropAugmentation(photometric=0.0)
    data = ImageFolderDataModule(str(tmp_path), (32, 32), batch_size=16, num_workers=0, augmentation=augmentation)
    model = task(schedule=ExponentialDecay(0.95, 1.0))
    fit = trainer(tmp_path, max_epochs=15, check_val_every_n_epoch=15)
    fit.fit(model, data)
    assert fit.global_step == 30
    figures = {name: float(value) for name, value in fit.callback_metrics.items()}
    assert figures["top1"] == figures["top5"] == 1.0
    assert figures["train_loss"] < 0.3
    assert figures["val_loss"] < 0.3
    assert fit.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.1 * 0.95**15)
    assert model.class_names == ("blue", "red")


def test_unreadable_validation_images_are_left_out(image_folder: Path, tmp_path: Path) -> None:
    model = task(3)
    data = ImageFolderDataModule(str(image_folder), (32, 32), batch_size=1, num_workers=0, on_error="skip")
    data.setup("validate")
    data.val_dataset.file = lambda index: image_folder / ("none" if index == 0 else "val/circle/1.png")  # type: ignore[method-assign]
    (figures,) = trainer(tmp_path).validate(model, data, verbose=False)
    assert model.metrics is not None
    assert model.metrics.to_json()["per_class"]["circle"]["images"] == 1
    assert np.isfinite(figures["val_loss"])


def test_a_step_of_one_image_is_taken(image_folder: Path, tmp_path: Path) -> None:
    """Only maps of one cell give batch norm nothing to compare, and those of a classifier have more."""
    network = Classifier(MobileNetV2(0.35), 3, (64, 64))
    model = ClassificationTask(network, lambda parameters: torch.optim.SGD(parameters, lr=0.1))
    data = ImageFolderDataModule(str(image_folder), (64, 64), batch_size=1, num_workers=0)
    fit = trainer(tmp_path, max_epochs=1, limit_train_batches=2, limit_val_batches=0)
    fit.fit(model, data)
    assert fit.global_step == 2
    assert np.isfinite(float(fit.callback_metrics["train_loss"]))


@pytest.mark.parametrize("options", [{"label_smoothing": 1.0}, {"label_smoothing": -0.1}, {"eval_crop": 0.0}])
def test_numbers_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(options))} is"):
        task(**options)
