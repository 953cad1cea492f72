"""Show what a model finds in a camera's pictures, a video or a folder, as it comes."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import mbdet
from mbdet.demo.live import Wishes, run_demo
from mbdet.errors import InputError


def main(argv: Sequence[str]) -> None:
    """Open a window or write a video, and print how many pictures a second it was and what each stage took."""
    parser = argparse.ArgumentParser(
        "mbdet demo",
        description="Draw boxes, the classes of all pixels or the likeliest class into pictures as they come, with the"
        " rate and the time of each stage below, in a window (Escape closes it) or into a video. An exported file runs"
        " without PyTorch.",
        epilog="With a config, any of its values can be overridden.",
        allow_abbrev=False,
    )
    parser.add_argument("model", type=Path, help="exported file, checkpoint, or config (with --weights)")
    parser.add_argument("--weights", help="weights for a config")
    parser.add_argument(
        "--source",
        default="0",
        help="number of a camera, address of a stream, video, picture or folder (default: camera %(default)s)",
    )
    parser.add_argument("--output", type=Path, help="video to write instead of opening a window: .mp4, .avi or .mkv")
    parser.add_argument("--score", type=float, help="leave out what scores less (default: 0.5 for boxes, else 0)")
    parser.add_argument("--track", action="store_true", help="number the objects from picture to picture")
    parser.add_argument("--rate", type=float, default=2.0, help="pictures of a folder a second (default: %(default)s)")
    parser.add_argument("--limit", type=int, help="end after so many pictures")
    options, overrides = parser.parse_known_args(argv)
    if overrides and options.model.suffix not in (".yaml", ".yml"):
        raise InputError(f"demo takes no {overrides[0]} with {options.model}")
    if options.rate <= 0 or (options.limit is not None and options.limit < 1):
        raise InputError("demo: --rate must be above 0 and --limit at least 1")

    predictor = mbdet.load(options.model, options.weights, overrides)
    run_demo(
        predictor, options.source, options.output, Wishes(options.score, options.track, options.limit, options.rate)
    )
