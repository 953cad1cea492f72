"""Published accuracy against multiply-adds, with the place of a network of ours, as a picture."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from mbdet.errors import InputError
from mbdet.report.published import COCO, IMAGENET
from mbdet.runtime.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Colour (of Okabe and Ito, whose colours the colour-blind tell apart too), label, and where the label stands beside the
# widest model, in points.
_FAMILIES = {
    "MobileNetV1": ("#000000", "V1", (8, -4)),
    "MobileNetV2": ("#0072B2", "V2", (8, -4)),
    "MobileNetV3-Large": ("#D55E00", "V3-Large", (-6, 6)),
    "MobileNetV3-Small": ("#AA4499", "V3-Small", (-6, 6)),
}
# Where a detector's name stands beside its point: side, and offset in points.
_NAMES = {
    "V1": ("left", (8, -4)),
    "V2": ("left", (8, -4)),
    "V3-Large": ("right", (6, 9)),
    "V3-Large reduced": ("right", (-8, -4)),
    "V2 0.5": ("left", (8, -4)),
    "V2 0.35": ("left", (8, -4)),
    "V3-Small": ("left", (8, -4)),
    "V3-Small reduced": ("left", (-4, -20)),
}
_MARK = "#00795A"


class Mark(NamedTuple):
    """A network whose accuracy is not known, only its cost."""

    name: str
    madds: int
    panel: Literal["ImageNet", "COCO"]  # what its cost can be compared with


def plot_published(mark: Mark, path: Path) -> None:
    """Plot ImageNet accuracy of the MobileNets, and COCO AP of the SSDLites on them, over multiply-adds.

    The file is written under a temporary name first, so that it is never half a picture.

    Args:
        mark: The network to show as a vertical line in its panel.
        path: Where to write; the suffix, such as .png or .svg, is the format.

    Raises:
        InputError: If the suffix is of no picture.
    """
    # Imported here because it is slow, and without pyplot, which keeps a backend and every figure for the process.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5.2), dpi=120, layout="constrained")
    file_format = path.suffix.removeprefix(".")
    if file_format not in figure.canvas.get_supported_filetypes():
        raise InputError(f"{path}: not a name for a picture; let it end in .png or .svg")
    classifiers, detectors = figure.subplots(1, 2, width_ratios=(1.3, 1))
    _draw_classifiers(classifiers)
    _draw_detectors(detectors)
    for axes in (classifiers, detectors):
        axes.set_xscale("log")
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    if mark.panel == "ImageNet":
        _draw_mark(classifiers, mark.madds / 1e6, f"{mark.name}: {mark.madds / 1e6:,.0f} M", height=0.95)
    else:
        _draw_mark(detectors, mark.madds / 1e9, f"{mark.name}: {mark.madds / 1e9:.2f} B", height=0.6)
    for axes in (classifiers, detectors):
        left, right = axes.get_xlim()
        ticks = [digit * 10.0**power for power in range(-3, 6) for digit in (1, 2, 5)]
        ticks = [tick for tick in ticks if left <= tick <= right]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()

    with write_atomically(path) as temporary:
        figure.savefig(temporary, format=file_format)


def _draw_classifiers(axes: "Axes") -> None:
    for family in IMAGENET:
        colour, label, offset = _FAMILIES[family.name]
        widths = sorted((model.madds, model.top1) for model in family.models if model.size == 224)
        axes.plot(*zip(*widths, strict=True), "o-", color=colour, markersize=5.5, linewidth=1.6, zorder=3)
        others = [(model.madds, model.top1) for model in family.models if model.size != 224]
        axes.plot(*zip(*others, strict=True), "o", color=colour, markersize=3.5, markerfacecolor="white", zorder=2)
        axes.annotate(
            label,
            widths[-1],
            offset,
            textcoords="offset points",
            color=colour,
            weight="bold",
            horizontalalignment="left" if offset[0] > 0 else "right",
        )
    axes.set_title("ImageNet: filled, the widths at 224 pixels; open, other resolutions", fontsize=11)
    axes.set_xlabel("multiply-adds (millions)")
    axes.set_ylabel("top-1 accuracy (%)")
    axes.set_xlim(9, 900)
    axes.set_ylim(40, 86)


def _draw_detectors(axes: "Axes") -> None:
    for detector in COCO:
        side, offset = _NAMES[detector.name]
        colour = next(colour for colour, label, _ in _FAMILIES.values() if detector.name.startswith(label))
        axes.plot(detector.madds, detector.ap, "o", color=colour, markersize=6)
        axes.annotate(
            detector.name,
            (detector.madds, detector.ap),
            offset,
            textcoords="offset points",
            color=colour,
            horizontalalignment=side,
        )
    axes.set_title("COCO test-dev: SSDLite at 320 x 320", fontsize=11)
    axes.set_xlabel("multiply-adds (billions)")
    axes.set_ylabel("AP (%)")
    axes.set_xlim(0.13, 1.9)
    axes.set_ylim(12.5, 24)


def _draw_mark(axes: "Axes", madds: float, label: str, height: float) -> None:
    """Draw a line, as its accuracy is not known, in a panel made wide enough, and its label where the panel is free."""
    left, right = axes.get_xlim()
    axes.set_xlim(min(left, madds / 1.3), max(right, madds * 1.3))
    axes.axvline(madds, color=_MARK, linestyle=(0, (5, 3)), linewidth=1.4, zorder=1)
    left, right = axes.get_xlim()
    in_right_half = madds > math.sqrt(left * right)
    axes.annotate(
        f"{label}\naccuracy unknown",
        (madds, height),
        (-6 if in_right_half else 6, 0),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        color=_MARK,
        horizontalalignment="right" if in_right_half else "left",
        verticalalignment="center",
    )
