"""From an image file to the pixels of the network input, the same in training, in evaluation and on the device."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from mbdet.errors import InputError

# What turns the stored pixels upright, by EXIF orientation. Not ImageOps.exif_transpose: it also writes the EXIF block
# anew, which fails on the malformed tags of some cameras, and we need no EXIF afterwards.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPS_SIDES = (5, 6, 7, 8)
# How an image of another aspect becomes the network input: stretched to it; or in its top left corner with the aspect
# that it has, either resized until it fits exactly ("fit") or made smaller only where it is too large ("pad").
Resizing = Literal["stretch", "fit", "pad"]
MEAN_COLOUR = (124, 116, 104)  # ImageNet's, RGB
# Not all that Pillow knows: some of its formats start other programs or can only be written.
PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


def read_image(path: Path, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Read an image file of any mode as upright RGB.

    The EXIF orientation is applied, unless `size` shows that the annotations were drawn on the stored pixels.

    Args:
        path: The file, in any format that Pillow reads.
        size: Height and width that the data set's record states, if it does.

    Returns:
        Pixels (H, W, 3), RGB. 16-bit gray is scaled down to 8 bits, transparency is dropped.

    Raises:
        InputError: If the file is missing, truncated or no image, is larger than Pillow's limit against decompression
            bombs, or agrees with `size` neither as stored nor upright.
    """
    with _naming(path), Image.open(path) as file:
        stored, upright = _as_rgb(file), upright_rgb(file)
    if size is None or size == (upright.height, upright.width):
        return np.array(upright)
    if size == (stored.height, stored.width):
        return np.array(stored)
    raise InputError(
        f"{path}: the file is {stored.width}x{stored.height}, its record says {size[1]}x{size[0]} (width x height);"
        " correct the record or replace the file"
    )


def upright_rgb(file: Image.Image) -> Image.Image:
    """Return an opened image of any mode as RGB, turned as its EXIF orientation says."""
    turn = _UPRIGHT.get(_orientation(file))
    return _as_rgb(file) if turn is None else _as_rgb(file).transpose(turn)


def image_size(path: Path) -> tuple[int, int]:
    """Height and width that `read_image(path)` has, from the file's header alone.

    Raises:
        InputError: If the file is missing or no image.
    """
    with _naming(path), Image.open(path) as file:
        sides = (file.height, file.width)
        return (sides[1], sides[0]) if _orientation(file) in _SWAPS_SIDES else sides


def resize(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize to the network input, bilinear, antialiased where that makes the image smaller (Pillow's BILINEAR).

    The width first, to whole numbers, and then the height.

    Args:
        image: Pixels (H, W, 3).
        size: Height and width of the network input.

    Returns:
        Pixels (height, width, 3); `image` itself where it has that size already.
    """
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    # One side after the other: some versions of Pillow change the height first where that is less work, and round to
    # other pixels than the rest.
    rows = Image.fromarray(image).resize((width, image.shape[0]), Image.Resampling.BILINEAR)
    return np.array(rows.resize((width, height), Image.Resampling.BILINEAR))


def zoom_to_fit(size: tuple[int, int], input_size: tuple[int, int]) -> float:
    """How many times larger an image may become before it no longer fits into the network input."""
    return min(input_size[0] / size[0], input_size[1] / size[1])


def placed_size(size: tuple[int, int], input_size: tuple[int, int], resizing: Resizing) -> tuple[int, int]:
    """Height and width that an image has within the network input.

    Args:
        size: Height and width of the image.
        input_size: Height and width of the network input.
        resizing: How it is brought there.

    Returns:
        The sides of the top left part of the network input that shows the image.
    """
    if resizing == "stretch":
        return input_size
    zoom = zoom_to_fit(size, input_size)
    if resizing == "pad" and zoom >= 1:
        return size
    height, width = (max(1, min(round(side * zoom), limit)) for side, limit in zip(size, input_size, strict=True))
    return height, width


def place(image: NDArray[np.uint8], input_size: tuple[int, int], resizing: Resizing) -> NDArray[np.uint8]:
    """Bring an image into the network input, what is left at the bottom or the right filled with the mean colour.

    Args:
        image: Pixels (H, W, 3), RGB.
        input_size: Height and width of the network input.
        resizing: How to bring it there.

    Returns:
        Pixels (height, width, 3).
    """
    height, width = placed_size((image.shape[0], image.shape[1]), input_size, resizing)
    resized = resize(image, (height, width))
    if (height, width) == tuple(input_size):
        return resized
    canvas = np.full((*input_size, 3), MEAN_COLOUR, dtype=np.uint8)
    canvas[:height, :width] = resized
    return canvas


def central_crop(image: NDArray[np.uint8], fraction: float) -> NDArray[np.uint8]:
    """Cut the central part out, of the image's own aspect (slim's `central_crop`, to whole pixels).

    Args:
        image: Pixels (H, W, 3).
        fraction: Side of the part, in sides of the image, above 0 and at most 1.

    Returns:
        A view of `image`, at least one pixel large.
    """
    height, width = image.shape[:2]
    top, left = (min(int(side * (1 - fraction) / 2), (side - 1) // 2) for side in (height, width))
    return image[top : height - top, left : width - left]


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong while reading `path` into an InputError that names it."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such image file; check the path") from None
    except UnidentifiedImageError:
        raise InputError(f"{path}: not an image that Pillow reads; convert it to JPEG or PNG, or remove it") from None
    except Image.DecompressionBombError:
        raise InputError(
            f"{path}: more than {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels, which Pillow takes for an attack;"
            " cut it into tiles or make it smaller"
        ) from None
    # Broken bytes make Pillow's decoders raise almost anything: OSError, SyntaxError, struct.error, ValueError, ...
    except Exception as error:  # reported with the file's name, see above
        raise InputError(f"{path}: cannot be read as an image ({error}); replace or remove the file") from error


def _orientation(file: Image.Image) -> int:
    try:
        return int(file.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # as above; EXIF that cannot be read says nothing about the orientation
        return 1


def _as_rgb(file: Image.Image) -> Image.Image:
    if file.mode in ("I", "F") or file.mode.startswith("I;16"):
        return _gray_to_8_bits(file).convert("RGB")
    if file.mode == "P" and "transparency" in file.info:
        file = file.convert("RGBA")  # Pillow warns about the direct way
    return file.convert("RGB")


def _gray_to_8_bits(file: Image.Image) -> Image.Image:
    """Scale 0..65535 to 0..255, where Pillow's own conversion would clip at 255."""
    values = np.asarray(file)
    if file.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise ValueError(f"{file.mode} pixels have no fixed range, unlike those of 8 or 16 bits")
    return Image.fromarray(((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8))


def image_files(path: Path) -> list[Path]:
    """List the pictures that a path means: itself, or those of a folder in the order of their names.

    Raises:
        InputError: If there is nothing, or no picture in the folder.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"{path}: there is no such picture or folder; check the path")
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in PICTURES and file.is_file())
    if not files:
        raise InputError(f"{path}: no picture in this folder; give one that holds JPEG or PNG files")
    return files
