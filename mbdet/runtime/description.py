"""What the description of a model file must have for its task, so that nothing is missing where it is used."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from mbdet.errors import InputError
from mbdet.runtime.image import Resizing

_COUNTS, _THRESHOLDS = ("max_candidates", "max_per_class", "max_detections"), ("score_threshold", "iou_threshold")
# Of the outputs of a task, a file has one set or another, see `mbdet.runtime.finish`.
_SUPPRESSED, _UNSUPPRESSED = {"boxes", "scores", "labels", "counts"}, {"anchor_boxes", "class_scores"}
_OBJECTS, _MAPS = (_SUPPRESSED, _UNSUPPRESSED), ({"classes"}, {"probabilities"}, {"logits"})
_OUTPUTS = {
    "detection": (_OBJECTS,),
    "segmentation": (_MAPS,),
    "classification": (({"probabilities"},),),
    "multitask": (_OBJECTS, _MAPS),
}


def check_description(path: Path, description: Mapping[str, Any]) -> None:
    """Check that a description has all that running a file of its task needs, as it should be.

    Args:
        path: The model file.
        description: What was written into it or beside it. Of a task that is unknown, little is checked.

    Raises:
        InputError: If it is not one of mbdet's, or damaged; it names the first entry that cannot be used.
    """
    if not all(description.get(entry) for entry in ("task", "class_names", "input")):
        raise InputError(f"{path}: was not exported by mbdet; export a model with tools/export.py")
    fault = next(_faults(description), None)
    if fault is not None:
        raise InputError(f"{path}: {fault} in its description is missing or damaged; export it again")


def _faults(description: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of entries that cannot be used, in the order in which others depend on them."""
    task, image, outputs = description["task"], description["input"], description.get("output")
    if not isinstance(task, str):
        yield "task"
    if not _are_names(description["class_names"]):
        yield "class_names"
    if not isinstance(image, Mapping):
        yield "input"
    size, batch = image.get("size"), image.get("batch")
    if not (isinstance(size, list | tuple) and len(size) == 2 and all(map(_is_count, size))):
        yield "size of input"
    if not (batch is None or _is_count(batch)):
        yield "batch of input"
    if not isinstance(outputs, Mapping) or not all(
        any(each <= outputs.keys() for each in choices) for choices in _OUTPUTS.get(task, ())
    ):
        yield "output"
    elif outputs.keys() >= _UNSUPPRESSED and not _is_decoding(description.get("decoding")):
        yield "decoding"
    if task == "segmentation" and image.get("resize") not in get_args(Resizing):
        yield "resize of input"
    if task == "classification" and not (_is_number(image.get("central_crop")) and 0 < image["central_crop"] <= 1):
        yield "central_crop of input"
    if task == "multitask" and not _are_names(description.get("segment_names")):
        yield "segment_names"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _are_names(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and all(isinstance(name, str) for name in value)


def _is_decoding(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and all(_is_count(value.get(name)) for name in _COUNTS)
        and all(_is_number(value.get(name)) for name in _THRESHOLDS)
    )
