"""The multitask task: that both heads learn, what the loss is made of, and what it refuses."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from quiet_trainer import trainer

from mbdet.backbones import MobileNetV2
from mbdet.data import (
    CocoDataModule,
    ShapesDataModule,
    ShapesMultiTaskDataModule,
    TwoSetsDataModule,
    VocSegmentationDataModule,
)
from mbdet.data.shapes import CLASS_NAMES
from mbdet.data.transforms import Augmentation
from mbdet.errors import InputError
from mbdet.models import LRASPP, MultiTask, SSDLite
from mbdet.ops import FocalSSDLoss, Postprocess, SegmentationLoss
from mbdet.tasks import MultiTaskTask
from mbdet.types import TwoBatches

SIZE = (72, 96)
PIXELS = ("background", *CLASS_NAMES)


def task(num_objects: int = 6, num_pixels: int = 7, **options: Any) -> MultiTaskTask:
    torch.manual_seed(0)
    network = MultiTask(
        MobileNetV2(0.35, scale_last=True, bn_momentum=0.5),
        partial(SSDLite, num_classes=num_objects, input_size=SIZE, taps=("c3", "c4"), extra_channels=(32, 16)),
        partial(LRASPP, num_classes=num_pixels, input_size=SIZE, channels=16),
    )
    optimizer = partial(torch.optim.AdamW, lr=0.01)
    return MultiTaskTask(network, FocalSSDLoss(normalize_by_code_size=False), optimizer, **options)


def both(shapes: Path, **options: Any) -> ShapesMultiTaskDataModule:
    settings = {"batch_size": 4, "num_workers": 0, "augmentation": None, **options}
    return ShapesMultiTaskDataModule(str(shapes), SIZE, num_train=8, num_val=5, **settings)


def two_sets(shapes: Path) -> TwoSetsDataModule:
    flip = Augmentation(photometric=0, zoom_out=0, crop=0)
    return TwoSetsDataModule(
        CocoDataModule(str(shapes), SIZE, "train", "val", batch_size=4, num_workers=0, augmentation=flip),
        VocSegmentationDataModule(
            str(shapes / "VOC"), SIZE, class_names=PIXELS, batch_size=4, num_workers=0, augmentation=None
        ),
    )


@pytest.mark.parametrize("module", [both, two_sets])
def test_both_heads_learn(module: Any, shapes: Path, tmp_path: Path) -> None:
    model, data = task(), module(shapes)
    data.prepare_data()
    (before,) = trainer(tmp_path).validate(model, data, verbose=False)
    fit = trainer(tmp_path, max_epochs=12, check_val_every_n_epoch=12)
    fit.fit(model, data)
    figures = {name: float(value) for name, value in fit.callback_metrics.items()}
    # 24 steps: enough to see that both losses fall, on the images themselves.
    for head in ("detection", "segmentation"):
        assert figures[f"train_loss_{head}"] < 0.7 * before[f"val_loss_{head}"]
    assert figures["train_loss"] == pytest.approx(
        figures["train_loss_detection"] + figures["train_loss_segmentation"], rel=1e-4
    )
    assert figures["val_loss"] == pytest.approx(
        figures["val_loss_detection"] + figures["val_loss_segmentation"], rel=1e-4
    )
    assert {"AP_mIoU", "AP", "AP50", "AP75", "mIoU", "pixel_accuracy"} <= figures.keys()
    assert figures["AP_mIoU"] == pytest.approx((figures["AP"] + figures["mIoU"]) / 2)
    assert model.monitor in figures


def test_the_validation_loss_is_that_of_all_images(shapes: Path, tmp_path: Path) -> None:
    model = task(detection_weight=0.5, segmentation_weight=3.0)
    losses = []
    for size in (5, 2):  # at once, and in batches of 2, 2 and 1
        (figures,) = trainer(tmp_path).validate(model, both(shapes, batch_size=size), verbose=False)
        weighted = 0.5 * figures["val_loss_detection"] + 3 * figures["val_loss_segmentation"]
        assert figures["val_loss"] == pytest.approx(weighted, rel=1e-5)
        losses.append(figures)
    # The detector's loss is normalised by the objects of a batch, so only the other is exactly a mean over images.
    assert losses[0]["val_loss_segmentation"] == pytest.approx(losses[1]["val_loss_segmentation"], rel=0.05)
    assert losses[0]["mIoU"] == losses[1]["mIoU"]


def test_a_weight_scales_the_gradient_of_its_head(shapes: Path) -> None:
    data = both(shapes)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    gradients = []
    for weight in (1.0, 4.0):
        model = task(segmentation_weight=weight)
        model.weigh(model.losses(batch, *model.outputs(batch))).backward()
        network = model.network
        gradients.append(
            [head.grad for head in (network.segmenter.gate.weight, network.detector.box_heads[0].pointwise.weight)]
        )
    torch.testing.assert_close(gradients[1][0], 4 * gradients[0][0])
    torch.testing.assert_close(gradients[1][1], gradients[0][1])


def test_each_head_learns_of_its_own_set_alone(shapes: Path) -> None:
    data = two_sets(shapes)
    data.setup("fit")
    batch, _, _ = next(iter(data.train_dataloader()))
    for part, other in ((batch.detection, "segmenter"), (batch.segmentation, "detector")):
        model = task().train()
        before = {name: value.clone() for name, value in model.network.state_dict().items()}
        losses = model.losses(part, *model.outputs(part))
        assert len(losses) == 1
        model.weigh(losses).backward()
        after = model.network.state_dict()
        changed = {name.partition(".")[0] for name, value in before.items() if not torch.equal(value, after[name])}
        assert changed == {"backbone", *{"detector", "segmenter"} - {other}}  # statistics of batch norms
        assert all(parameter.grad is None for parameter in getattr(model.network, other).parameters())
    # Together they leave no parameter without a gradient, as several processes need it.
    model = task()
    losses = {}
    for part in batch:
        losses |= model.losses(part, *model.outputs(part))
    model.weigh(losses).backward()
    assert all(parameter.grad is not None for parameter in model.network.parameters())


def test_what_does_not_fit_is_refused(shapes: Path, tmp_path: Path) -> None:
    for model, message in (
        (task(num_objects=7), r"detector.num_classes is 7, but .* 6 categories .*background does not count: set"),
        (task(num_pixels=6), r"segmenter.num_classes is 6, but .* set --model.network.segmenter.num_classes 7"),
        (task(class_names=CLASS_NAMES[::-1]), "class 0 is 'ring' in the config, .* give class_names in the order"),
        (task(segment_names=CLASS_NAMES), "segment_names has 6 names, but the data has 7"),
    ):
        with pytest.raises(InputError, match=message):
            trainer(tmp_path).validate(model, both(shapes), verbose=False)
    with pytest.raises(InputError, match=r"a ShapesDataModule gives one task its data; .* needs boxes and masks"):
        trainer(tmp_path).validate(
            task(), ShapesDataModule(str(shapes), SIZE, num_train=8, num_val=5, num_workers=0), verbose=False
        )
    with pytest.raises(InputError, match="segmentation_weight 0; give numbers above 0"):
        task(segmentation_weight=0)
    with pytest.raises(InputError, match=r"postprocess\.scores"):
        task(postprocess=Postprocess(scores="softmax"))
    with pytest.raises(InputError, match="class_weights"):
        task(segmentation_loss=SegmentationLoss(class_weights=[1.0, 2.0]))
    with pytest.raises(InputError, match="a training step of one image"):
        trainer(tmp_path, max_steps=1).fit(task(), both(shapes, batch_size=1))


def test_a_set_that_has_ended_is_passed_over(shapes: Path, tmp_path: Path) -> None:
    data = two_sets(shapes)
    data.detection.batch_size = 1
    model = task()
    trainer(tmp_path).validate(model, data, verbose=False)
    assert model._evaluator is not None
    kinds = [kind for kind, _ in model._evaluator.collected]
    assert (kinds.count("detections"), kinds.count("confusion")) == (5, 5)
    assert TwoBatches._fields == ("detection", "segmentation")


def test_the_drawing_has_what_was_found_and_what_is_true(shapes: Path) -> None:
    data, others = both(shapes), two_sets(shapes)
    for module in (data, others):
        module.setup("validate")
    model = task()
    predictor = model.predictor("cpu")
    assert predictor.segment_names == tuple(f"class {number}" for number in range(7))
    widths = []
    for sample in (data.val_dataset[1], others.val_dataset[1], others.val_dataset[6]):
        image = sample.image.transpose(2, 0, 1)[None]
        (found,) = predictor.predict(image, np.array([SIZE]))
        assert found.segmentation.classes.shape == SIZE
        picture = model.draw(sample, found)
        assert picture.dtype == np.uint8
        assert picture.shape[0] >= SIZE[0]
        widths.append(picture.shape[1])
    assert widths == [2 * SIZE[1], SIZE[1], 2 * SIZE[1]]  # without a mask nothing stands beside
