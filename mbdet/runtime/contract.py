"""What goes into an exported file and what comes out, as Markdown for those who write the app around it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mbdet.errors import InputError, first_line
from mbdet.runtime.description import check_description

_SHAPES = {  # of the input by its layout, with B, H and W for batch, height and width
    "NCHW": "(B, 3, H, W): image, colour, row, column",
    "NHWC": "(B, H, W, 3): image, row, column, colour",
    "CHW": "(3, H, W): colour, row, column",
    "image": "a picture of H rows and W columns",
}
_RESIZED = {
    "stretch": "stretched to H x W (height x width), whatever its aspect",
    "fit": "resized with its aspect until it just fits into H x W (height x width), at the top left",
    "pad": "where it is larger than H x W (height x width) made smaller with its aspect until it fits, at the top left",
}
_DECODING = {
    "score_threshold": "drop (anchor, class) pairs that score at or below this",
    "max_candidates": "keep at most this many pairs, highest scores first, ties in the order of the output; then drop"
    " boxes without width or height",
    "iou_threshold": "drop a box whose IoU with a kept, higher-scoring box of its class exceeds this",
    "max_per_class": "keep at most this many boxes of a class, highest scores first",
    "max_detections": "keep at most this many boxes in all, highest scores first",
}


def contract(path: Path, description: Mapping[str, Any]) -> str:
    """Say what an exported file takes and gives.

    Args:
        path: The file, whose name is all that is used.
        description: What stands beside it.

    Returns:
        Markdown tables, and lists of the classes.

    Raises:
        InputError: If the description is damaged, or older than the entry `output_types`.
    """
    check_description(path, description)
    types = description.get("output_types")
    if not isinstance(types, Mapping) or not description["output"].keys() <= types.keys():
        raise InputError(f"{path}: output_types, the shapes, are missing in its description; export it again")
    try:
        return "\n\n".join(_parts(path.name, description)) + "\n"
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path}: its description lacks something or is damaged ({first_line(error)}); export it again"
        ) from error


def _parts(name: str, description: Mapping[str, Any]) -> list[str]:
    """Return the tables and lists."""
    parts = [
        _table(("file", name), _file(description)),
        _table(("input", description["input"].get("name", "images")), _input(description["input"])),
        _outputs(description),
    ]
    if "decoding" in description:
        where = "still to be done" if "class_scores" in description["output"] else "done inside"
        decoding = description["decoding"]
        rows = [(f"`{key}`", f"{decoding[key]:g}", meaning) for key, meaning in _DECODING.items()]
        parts.append(_table(("decoding", "value", f"in this order, {where}"), rows))
    for entry in ("class_names", "segment_names"):
        if entry in description:
            parts.append(f"{entry}: {_numbered(description[entry])}")
    return parts


def _file(description: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what the file is."""
    yield "task", description["task"]
    if "precision" in description:
        yield "precision", description.get("arithmetic", description["precision"])


def _input(image: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what goes in, and how a picture is made that."""
    height, width = image["size"]
    layout, batch = image.get("layout", "NCHW"), "B" if image.get("batch") is None else str(image["batch"])

    def filled(text: str) -> str:
        return text.replace("B,", f"{batch},").replace("H", str(height)).replace("W", str(width))

    shape = filled(_SHAPES[layout])
    yield "shape", shape if layout == "image" else f"{shape} ({layout})"
    yield "values", f"{image['dtype']}, 0 to 255, {image['color']}; normalised inside, not before"
    crop = image.get("central_crop", 1)
    if crop != 1:
        yield "crop", f"first the central part of a picture, {crop:g} of its height and of its width"
    yield "size", filled(_RESIZED[image["resize"]])
    if "padding_color" in image:
        colour = tuple(image["padding_color"])
        yield "padding", f"the rest has RGB {colour}; of a map of pixels, only the top-left part belongs to the picture"
    yield "interpolation", f"{image['interpolation']}, as Pillow's `BILINEAR`"


def _outputs(description: Mapping[str, Any]) -> str:
    """Return the table of what comes out, with the file's own names where they are others."""
    blobs = description.get("blobs", {})
    rows = []
    for name, meaning in description["output"].items():
        of = description["output_types"][name]
        blob = [f"`{blobs[name]}`"] if blobs else []
        rows.append([f"`{name}`", *blob, _shape(of["shape"]), of["dtype"], meaning])
    return _table(["output, in this order", *(["blob"] if blobs else []), "shape", "type", "meaning"], rows)


def _shape(sides: Sequence[int | None]) -> str:
    """Write a shape as Python does, B for any number."""
    return f"({', '.join('B' if side is None else str(side) for side in sides)})"


def _numbered(names: Sequence[str]) -> str:
    return ", ".join(f"{number} {name}" for number, name in enumerate(names))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
