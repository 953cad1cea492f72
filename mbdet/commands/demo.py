"""Show what a model finds, at once: in a camera's pictures, a video or a folder, or on a page in the browser."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import mbdet
from mbdet.commands import demo_web
from mbdet.demo.live import Wishes, run_demo
from mbdet.errors import InputError

_ONLY_LIVE = ("weights", "source", "output", "score", "track", "rate", "limit")


def main(argv: Sequence[str]) -> None:
    """Open a window, write a video or serve the page; of the first two, print the rate and what each stage took."""
    parser = argparse.ArgumentParser(
        "mbdet demo",
        description="Draw boxes, the classes of all pixels or the likeliest class into pictures as they come, with the"
        " rate and the time of each stage below, in a window (Escape closes it) or into a video; or open a page that"
        " does so in the browser. An exported file runs without PyTorch.",
        epilog="With a config, any of its values can be overridden.",
        allow_abbrev=False,
    )
    parser.add_argument("model", type=Path, help="exported file, checkpoint, or config (with --weights)")
    parser.add_argument("--weights", help="weights for a config")
    parser.add_argument(
        "--source", help="number of a camera, address of a stream, video, picture or folder (default: camera 0)"
    )
    parser.add_argument("--output", type=Path, help="video to write instead of opening a window: .mp4, .avi or .mkv")
    parser.add_argument("--score", type=float, help="leave out what scores less (default: 0.5 for boxes, else 0)")
    parser.add_argument("--track", action="store_true", default=None, help="number the objects from picture to picture")
    parser.add_argument("--rate", type=float, help="pictures of a folder a second (default: 2)")
    parser.add_argument("--limit", type=int, help="end after so many pictures")
    page = parser.add_argument_group("in the browser")
    page.add_argument("--web", action="store_true", help="open a page that runs an exported ONNX file there")
    demo_web.add_options(page)
    options, overrides = parser.parse_known_args(argv)
    if options.web:
        given = [*(f"--{name}" for name in _ONLY_LIVE if getattr(options, name) is not None), *overrides]
        if given:
            raise InputError(f"demo --web takes no {given[0]}; the page has its own controls")
        demo_web.run(options.model, options.port, options.build, open_browser=options.browser)
        return
    of_page = {"build": options.build is not None, "port": options.port is not None, "no-browser": not options.browser}
    if given := [name for name, is_given in of_page.items() if is_given]:
        raise InputError(f"demo: --{given[0]} is for the page of --web; give both")
    if overrides and options.model.suffix not in (".yaml", ".yml"):
        raise InputError(f"demo takes no {overrides[0]} with {options.model}")
    rate = 2.0 if options.rate is None else options.rate
    if not 0 < rate < math.inf or (options.limit is not None and options.limit < 1):
        raise InputError("demo: --rate must be above 0 and --limit at least 1")

    predictor = mbdet.load(options.model, options.weights, overrides)
    wishes = Wishes(options.score, bool(options.track), options.limit, rate)
    run_demo(predictor, options.source or "0", options.output, wishes)
