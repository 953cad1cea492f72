"""Top-k counted by hand."""

import json
import math
import pickle

import numpy as np
import pytest

from mbdet.errors import InputError
from mbdet.metrics.classification import ClassAccuracy, ClassificationEvaluator
from mbdet.runtime.types import Classification

NAMES = ["a", "b", "c", "d", "e", "f", "g"]
TRUTH = np.array([0, 0, 1, 6])
FILES = [f"{number}.jpg" for number in range(4)]
# Image 0: right. 1: the second. 2: the fifth. 3: not among the five.
FOUND = [[0, 1, 2, 3, 4], [1, 0, 2, 3, 4], [0, 2, 3, 4, 1], [0, 1, 2, 3, 4]]


def classes(labels: list[int]) -> Classification:
    scores = np.linspace(0.5, 0.1, len(labels), dtype=np.float32)
    return Classification(scores, np.array(labels, dtype=np.int64))


def evaluator(found: dict[int, list[int]]) -> ClassificationEvaluator:
    result = ClassificationEvaluator(FILES, TRUTH, NAMES)
    for image_id, labels in found.items():
        result.update(image_id, classes(labels))
    return result


def test_top_1_and_top_5_by_hand() -> None:
    metrics = evaluator(dict(enumerate(FOUND))).compute()
    assert (metrics.top1, metrics.top5) == (1 / 4, 3 / 4)
    assert metrics.per_class["a"] == ClassAccuracy(0.5, 1.0, 2)
    assert metrics.per_class["b"] == ClassAccuracy(0.0, 1.0, 1)
    assert metrics.per_class["g"] == ClassAccuracy(0.0, 0.0, 1)
    assert math.isnan(metrics.per_class["c"].top1)


def test_json_has_none_for_classes_without_images() -> None:
    content = evaluator(dict(enumerate(FOUND))).compute().to_json()
    assert list(content) == ["top1", "top5", "per_class"]
    assert list(content["per_class"]) == NAMES
    assert content["per_class"]["c"] == {"top1": None, "top5": None, "images": 0}
    assert json.loads(json.dumps(content, allow_nan=False)) == content


def test_only_the_images_that_were_seen_count_and_each_once() -> None:
    one = evaluator({0: FOUND[0], 2: FOUND[2]})
    one.update(0, classes(FOUND[0]))  # as a distributed sampler pads
    metrics = one.compute()
    assert (metrics.top1, metrics.top5) == (0.5, 1.0)
    assert metrics.per_class["a"].images == 1
    none = evaluator({}).compute()
    assert none.to_json()["top1"] is None


def test_parts_of_several_processes_merge() -> None:
    whole = evaluator(dict(enumerate(FOUND)))
    merged = evaluator({})
    for part in (evaluator({0: FOUND[0], 2: FOUND[2]}), evaluator({1: FOUND[1], 3: FOUND[3], 0: FOUND[0]})):
        merged.collected.update(pickle.loads(pickle.dumps(part.collected)))
    assert merged.compute().to_json() == whole.compute().to_json()
    assert merged.results() == whole.results()


def test_results_say_what_was_found_where() -> None:
    (record,) = evaluator({3: [0, 6]}).results()
    assert record == {
        "file": "3.jpg",
        "name": "g",
        "found": [{"name": "a", "score": 0.5}, {"name": "g", "score": 0.1}],
    }


@pytest.mark.parametrize(
    ("image_id", "labels", "message"),
    [(4, [0], "no image has the number 4; the split has 4"), (1, [7], r"1\.jpg: was given labels from 7 to 7")],
)
def test_what_does_not_fit_is_refused(image_id: int, labels: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluator({image_id: labels})
