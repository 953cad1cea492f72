from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonargparse import ArgumentParser

from mbdet.data import VocDataModule
from mbdet.errors import InputError
from mbdet.runtime.types import Detections

WriteVoc = Callable[..., Path]

TRAIN = {"a": [("dog", 0, (1, 1, 20, 20))], "bb": [("ant", 1, (1, 1, 20, 20))]}
TEST = {"ccc": [("cat", 0, (1, 1, 30, 20)), ("cat", 1, (31, 21, 60, 40))], "dddd": []}


@pytest.fixture
def root(write_voc: WriteVoc) -> Path:
    write_voc(TRAIN, "trainval")
    return write_voc(TEST, "test")


def module(root: Path, stage: str = "fit", **options: Any) -> VocDataModule:
    data = VocDataModule(str(root), **({"input_size": (20, 30), "batch_size": 2, "num_workers": 0} | options))
    data.setup(stage)
    return data


def test_batches(root: Path) -> None:
    data = module(root, augmentation=None)
    (batch,) = data.val_dataloader()
    assert batch.image_ids.tolist() == [0, 1]
    assert batch.targets.boxes.tolist() == [[[0, 0, 15, 10]], [[0, 0, 0, 0]]]
    assert batch.targets.labels[0].tolist() == [1]
    (batch,) = data.train_dataloader()
    assert batch.targets.valid.sum() == 1  # the ant is difficult
    (batch,) = module(root, train_difficult=True).train_dataloader()
    assert batch.targets.valid.sum() == 2


@pytest.mark.parametrize("stage", ["fit", "validate"])
def test_classes_are_those_of_both_splits_in_the_order_of_the_alphabet(root: Path, stage: str) -> None:
    assert module(root, stage).class_names == ("ant", "cat", "dog")


def test_given_classes_keep_their_order_and_need_no_training_data(root: Path) -> None:
    (root / "ImageSets/Main/trainval.txt").unlink()
    names = ["dog", "cat", "ant"]
    assert module(root, "validate", class_names=names).class_names == tuple(names)
    with pytest.raises(InputError, match=r"trainval.txt: there is no such list"):
        module(root, "validate")
    with pytest.raises(InputError, match=r"ccc.xml: object 1: 'cat' is not among the 1 class names; add it"):
        module(root, "validate", class_names=["dog"])
    assert module(root, "validate", class_names=["dog"], on_error="skip").val_dataset.max_objects == 1
    with pytest.raises(InputError, match="dog, dog repeats a name"):
        module(root, class_names=["dog", "dog"])


def test_without_any_object_the_classes_must_be_given(write_voc: WriteVoc) -> None:
    write_voc({"a": []}, "trainval")
    root = write_voc({"bb": []}, "test")
    with pytest.raises(InputError, match="no object in trainval or test could name a class; give class_names"):
        module(root)
    assert len(list(module(root, class_names=["dog"]).val_dataloader())) == 1


def test_a_missing_root_is_told_the_layout(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: .*Annotations/, JPEGImages/ and ImageSets/Main/"):
        module(tmp_path / "nowhere")


def test_the_evaluation_ignores_difficult_objects(root: Path) -> None:
    data = module(root, "validate")
    evaluator = data.evaluator()
    boxes = np.array([[30, 20, 60, 40], [0, 0, 30, 20]], np.float32)  # the difficult one first
    evaluator.update(0, Detections(boxes, np.array([0.9, 0.8], np.float32), np.array([1, 1])))
    evaluator.update(1, Detections(boxes[:0], np.zeros(0, np.float32), np.zeros(0, np.int64)))
    metrics = evaluator.compute()
    assert (metrics.AP, metrics.AP50_voc07, metrics.AP50_voc) == pytest.approx((1, 1, 1))
    assert [values.objects for values in metrics.per_class.values()] == [0, 1, 0]
    with pytest.raises(InputError, match=r"test.txt: no image has the id 2"):
        evaluator.update(2, Detections(boxes[:0], np.zeros(0, np.float32), np.zeros(0, np.int64)))


def test_yaml_and_flags_say_every_option(tmp_path: Path) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(VocDataModule, "data")
    file = tmp_path / "config.yaml"
    file.write_text(
        """
data:
  class_path: mbdet.data.VocDataModule
  init_args:
    root: VOCdevkit
    input_size: [300, 300]
    train_split: VOC2007/trainval+VOC2012/trainval
    val_split: VOC2007/test
    class_names: [cat, dog]
"""
    )
    data = parser.instantiate_classes(parser.parse_args([f"--config={file}", "--data.train_difficult=true"])).data
    assert isinstance(data, VocDataModule)
    assert (data.train_split, data.val_split) == ("VOC2007/trainval+VOC2012/trainval", "VOC2007/test")
    assert data.train_difficult


def test_a_real_epoch(real_data: Path) -> None:
    data = module(real_data / "bccd", train_split="train", val_split="val", on_error="skip", batch_size=32)
    assert data.class_names == ("Platelets", "RBC", "WBC")
    evaluator = data.evaluator()
    for batch in data.val_dataloader():
        for row, image_id in enumerate(batch.image_ids.tolist()):
            valid = batch.targets.valid[row]
            scale = (batch.sizes[row].flip(0) / batch.sizes.new_tensor([30, 20])).repeat(2)
            boxes = (batch.targets.boxes[row][valid] * scale).numpy().astype(np.float32)
            scores = np.full(len(boxes), 0.5, np.float32)
            evaluator.update(image_id, Detections(boxes, scores, batch.targets.labels[row][valid].numpy()))
    metrics = evaluator.compute()
    assert len(evaluator.collected) == 87
    assert sum(values.objects for values in metrics.per_class.values()) == 1137
    # Not quite 1: of two cells with nearly the same box, VOC's rule of the best match finds one.
    assert [metrics.AP50, metrics.AP50_voc] == pytest.approx([1, 1], abs=0.02)


def test_the_evaluation_knows_of_images_that_are_missing(root: Path) -> None:
    (root / "JPEGImages" / "dddd.jpg").unlink()
    data = module(root, "validate", on_error="skip")
    assert (len(data.val_dataset), data.evaluator().listed) == (1, 2)
