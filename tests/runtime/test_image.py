import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mbdet.errors import InputError
from mbdet.runtime.image import MEAN_COLOUR, Resizing, image_size, place, placed_size, read_image, resize

UPRIGHT = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 14  # 2 high, 3 wide, every pixel another

# How a camera stores the upright picture under each EXIF orientation (the EXIF standard's table of rows and columns).
STORED = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.swapaxes(0, 1),
    6: np.rot90(UPRIGHT, 1),
    7: UPRIGHT[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90(UPRIGHT, -1),
}


def save(path: Path, pixels: np.ndarray, orientation: int = 1) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, exif=exif)
    return path


def assert_one_line(error: pytest.ExceptionInfo[InputError], *words: str) -> None:
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    path = save(tmp_path / "a.png", STORED[orientation], orientation)
    np.testing.assert_array_equal(read_image(path), UPRIGHT)
    assert image_size(path) == (2, 3)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_the_records_size_tells_whether_annotations_were_drawn_on_the_stored_pixels(
    tmp_path: Path, orientation: int
) -> None:
    path = save(tmp_path / "a.png", STORED[orientation], orientation)
    np.testing.assert_array_equal(read_image(path, (3, 2)), STORED[orientation])
    np.testing.assert_array_equal(read_image(path, (2, 3)), UPRIGHT)


def test_a_half_turn_fits_either_way_and_is_applied(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", STORED[3], 3), (2, 3)), UPRIGHT)


def test_a_size_that_fits_neither_way_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", STORED[6], 6)
    with pytest.raises(InputError) as error:
        read_image(path, (4, 3))
    assert_one_line(error, str(path), "file is 2x3", "record says 3x4", "correct the record")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(UPRIGHT).save(path, exif=b"Exif\0\0II*\0\xff\xff\xff\xff junk")
    np.testing.assert_array_equal(read_image(path), UPRIGHT)


GRAY = np.array([[0, 1, 127], [128, 254, 255]], dtype=np.uint8)
AS_RGB = np.repeat(GRAY[:, :, None], 3, axis=2)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "RGB"])
def test_gray_in_any_mode(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(GRAY).convert(mode).save(path)
    pixels = read_image(path)
    np.testing.assert_array_equal(pixels, AS_RGB)
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable


def test_bits(tmp_path: Path) -> None:
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").tolist() == [[[255] * 3, [0] * 3]]


@pytest.mark.parametrize(("suffix", "dtype"), [(".png", "<u2"), (".tif", "<u2"), (".tif", ">u2"), (".tif", "<i4")])
def test_16_bit_gray_is_scaled_and_not_clipped(tmp_path: Path, suffix: str, dtype: str) -> None:
    values = GRAY.astype(np.uint16) * 257 + np.array([[0, 128, -128], [128, -128, 0]])  # what rounds to GRAY
    Image.fromarray(values.astype(dtype)).save(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}"), AS_RGB)


def test_float_pixels_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((2, 2), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(InputError) as error:
        read_image(tmp_path / "a.tif")
    assert_one_line(error, "a.tif", "no fixed range")


def test_transparent_palette_gives_its_colours_without_a_warning(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    image.save(tmp_path / "a.png", transparency=bytes([0, 128]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(tmp_path / "a.png").tolist() == [[[10, 20, 30], [200, 100, 50]]]


def test_cmyk(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - (255, 0, 0)).max() < 5


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.97])
def test_truncated_files_are_named(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"a{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(InputError) as error:
        read_image(path)
    assert_one_line(error, str(path), "replace" if share == 0.5 else "")


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("<html>404</html>")
    for path, word in ((tmp_path / "a.jpg", "not an image"), (tmp_path / "b.jpg", "no such image"), (tmp_path, "read")):
        with pytest.raises(InputError) as error:
            read_image(path)
        assert_one_line(error, str(path), word)


def test_decompression_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (10, 10)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 49)
    with pytest.raises(InputError) as error:
        read_image(tmp_path / "a.png")
    assert_one_line(error, "a.png", "98 pixels", "smaller")


def test_resize_is_pillows_antialiased_bilinear() -> None:
    image = np.random.default_rng(0).integers(0, 255, (31, 47, 3), dtype=np.uint8)
    expected = np.array(Image.fromarray(image).resize((20, 10), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(resize(image, (10, 20)), expected)
    # Without antialiasing every second pixel of this board would make the result black or white.
    board = (np.indices((32, 32)).sum(0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, axis=2)
    assert np.abs(resize(board, (8, 8)).astype(int) - 127).max() < 20


def test_the_width_is_resized_first_whatever_is_less_work() -> None:
    image = np.random.default_rng(0).integers(0, 256, (176, 7, 3), dtype=np.uint8)
    bilinear = Image.Resampling.BILINEAR
    wide = Image.fromarray(image).resize((33, 176), bilinear).resize((33, 20), bilinear)
    low = Image.fromarray(image).resize((7, 20), bilinear).resize((33, 20), bilinear)
    assert not np.array_equal(np.array(wide), np.array(low))
    np.testing.assert_array_equal(resize(image, (20, 33)), np.array(wide))


def test_resize_to_the_same_size_copies_nothing() -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    assert resize(image, (4, 6)) is image


def test_it_needs_neither_torch_nor_opencv() -> None:
    code = "import sys, mbdet.runtime.image; sys.exit(bool({'torch', 'cv2', 'albumentations'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("size", "resizing", "expected"),
    [
        ((375, 500), "stretch", (513, 513)),
        ((375, 500), "fit", (385, 513)),
        ((500, 333), "fit", (513, 342)),
        ((1000, 500), "fit", (513, 256)),
        ((1, 5000), "fit", (1, 513)),
        ((375, 500), "pad", (375, 500)),
        ((513, 513), "pad", (513, 513)),
        ((600, 300), "pad", (513, 256)),
    ],
)
def test_placed_size(size: tuple[int, int], resizing: Resizing, expected: tuple[int, int]) -> None:
    assert placed_size(size, (513, 513), resizing) == expected


def test_place_fills_with_the_mean_colour() -> None:
    image = np.full((10, 20, 3), 7, np.uint8)
    placed = place(image, (8, 8), "fit")
    assert (placed[:4] == 7).all()
    assert (placed[4:] == MEAN_COLOUR).all()
    assert (place(image, (8, 8), "stretch") == 7).all()
    padded = place(image, (12, 30), "pad")
    np.testing.assert_array_equal(padded[:10, :20], image)
    assert (padded[10:] == MEAN_COLOUR).all()
    assert (padded[:, 20:] == MEAN_COLOUR).all()
