"""Pictures from a source through a model to a view, until either ends."""

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.text import Text

from mbdet.demo.canvas import Canvas
from mbdet.demo.find import find_source
from mbdet.demo.sources import PictureFiles, Source
from mbdet.demo.stages import SHOWN, Report, Stages
from mbdet.demo.tracking import Tracker
from mbdet.demo.views import View, Window, write_video
from mbdet.errors import InputError
from mbdet.runtime.predictor import Predictor
from mbdet.runtime.types import Detections, MultiTaskPrediction

_SAMPLE = 9999.9  # ms: as wide as times get


class Wishes(NamedTuple):
    """What a user wants to see."""

    score: float | None = None  # what scores less is left out; by default 0.5 of objects and nothing else
    track: bool = False  # number the objects from picture to picture
    limit: int | None = None  # pictures after which it ends
    rate: float = 2.0  # pictures of a folder a second


def run_demo(predictor: Predictor[Any], source: str, output: Path | None, wishes: Wishes) -> None:
    """Show what a model finds in a window or write it to a video, and print what it took.

    Args:
        predictor: The model.
        source: See `find_source`.
        output: The video to write; None opens a window.
        wishes: The rest.

    Raises:
        InputError: If the source or the output cannot be used, or the model cannot do what is wished.
    """
    has_objects = predictor.kind in ("detector", "multitask network")
    if wishes.track and not has_objects:
        raise InputError(f"--track: numbers objects, but this model is a {predictor.kind}")
    score = (0.5 if has_objects else 0.0) if wishes.score is None else wishes.score
    tracker = Tracker(score) if wishes.track else None
    with closing(find_source(source, wishes.rate)) as opened, _open_view(output, opened) as view:
        report = watch(predictor, opened, view, score, tracker, wishes.limit)
    if opened.problem:
        print(f"mbdet: {opened.problem}", file=sys.stderr)
    rate, *stages = report.words()
    print(f"{opened.name}: {report.pictures} pictures at {rate}, to be seen at {opened.rate:.3g} fps")
    print(f"medians: {', '.join(stages)}")
    if output is not None:
        print(f"video: {output}")


def watch(
    predictor: Predictor[Any],
    source: Source,
    view: View,
    score: float,
    tracker: Tracker | None = None,
    limit: int | None = None,
) -> Report:
    """Take pictures until the source has no more, the view is closed or the user interrupts.

    Args:
        predictor: The model.
        source: Where the pictures come from.
        view: Where they go.
        score: What scores less is left out.
        tracker: What numbers the objects, if wished.
        limit: Pictures after which it ends.

    Returns:
        What it took.
    """
    names = ["read", "prepare", "network", *(["track"] if tracker else []), "draw", view.verb]
    stages = Stages(names)
    samples = Report(2, 1 / _SAMPLE, dict.fromkeys(names, _SAMPLE)).words()
    canvas: Canvas | None = None
    pictures = 0
    try:
        with Console(stderr=True).status(Text(source.name)) as status:
            while view.is_open and (limit is None or pictures < limit):
                with stages.time("read"):
                    while view.is_open and not source.ready():
                        view.refresh()
                    frame = source.read() if view.is_open else None
                if frame is None:
                    if isinstance(source, PictureFiles) and source.count == 1:
                        view.hold()
                    break
                with stages.time("prepare"):
                    prepared = predictor.prepare(frame.image).transpose(2, 0, 1)[None]
                with stages.time("network"):
                    (found,) = predictor.predict(prepared, np.array([frame.image.shape[:2]]))
                numbers = None
                if tracker is None:
                    found = predictor.above(found, score)
                else:
                    with stages.time("track"):
                        found, numbers = _number(tracker, found, frame.seconds)
                words = stages.report(SHOWN).words()
                with stages.time("draw"):
                    canvas = canvas or Canvas(predictor, frame.image.shape[:2], samples)
                    drawn = canvas.draw(frame.image, found, numbers, words)
                if not source.live:  # what is live would be as old forever as the first picture was
                    view.wait(frame.seconds)
                with stages.time(view.verb):
                    view.show(drawn, frame.seconds)
                pictures += 1
                stages.end()
                total = f" of {source.count}" if source.count else ""
                status.update(Text(f"{source.name}: {pictures}{total}, {', '.join(words)}"))
    except KeyboardInterrupt:
        pass  # the way to end a camera without a window; what was written stays
    return stages.report()


def _number(
    tracker: Tracker, found: Detections | MultiTaskPrediction, seconds: float
) -> tuple[Detections | MultiTaskPrediction, NDArray[np.int64]]:
    """Number the objects, and leave out those that score too little for it."""
    if isinstance(found, Detections):
        return tracker.update(found, seconds)
    objects, numbers = tracker.update(found.detections, seconds)
    return found._replace(detections=objects), numbers


@contextmanager
def _open_view(output: Path | None, source: Source) -> Iterator[View]:
    """Open what the pictures go to."""
    if output is not None:
        with write_video(output, source.rate) as writer:
            yield writer
        return
    with closing(Window(f"mbdet: {source.name}")) as window:
        yield window
