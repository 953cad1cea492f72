"""The page's own arithmetic, run by Node.js, beside that of Python."""

import base64
import io
import json
import shutil
import subprocess
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from mbdet.data.shapes import draw_scene
from mbdet.runtime import draw
from mbdet.runtime.image import MEAN_COLOUR, Resizing, place
from mbdet.runtime.maps import class_palette, restore_map
from mbdet.runtime.predictor import to_original
from mbdet.web.build import PAGE

# Height and width of a picture and of the network input: smaller, larger, both, neither, and what rounds to a half.
SIZES = [
    ((480, 640), (300, 300)),
    ((427, 640), (300, 300)),
    ((64, 96), (64, 96)),
    ((64, 97), (64, 96)),
    ((63, 96), (64, 96)),
    ((31, 17), (64, 96)),
    ((131, 257), (50, 300)),
    ((20, 301), (50, 300)),
    ((1, 1), (7, 5)),
    ((1, 900), (33, 33)),
    ((701, 1), (33, 33)),
    ((3, 5), (2, 9)),
    ((101, 202), (101, 101)),
    ((5, 4), (2, 2)),
    ((333, 500), (513, 513)),
    ((640, 427), (300, 300)),
    ((120, 100), (60, 70)),
    ((121, 100), (60, 70)),
]


@pytest.fixture(scope="module")
def run_module(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function that runs lines of JavaScript on the page's modules and returns their `result`."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    folder = tmp_path_factory.mktemp("modules")
    for path in PAGE.glob("*.js"):
        shutil.copyfile(path, folder / path.name)
    (folder / "package.json").write_text('{"type": "module"}')

    def run(code: str, given: Any) -> Any:
        script = folder / "run.js"
        read = 'import { readFileSync } from "node:fs";\nconst given = JSON.parse(readFileSync(0, "utf8"));\n'
        script.write_text(f"{read}{code}\nprocess.stdout.write(JSON.stringify(result));\n")
        done = subprocess.run(
            ["node", str(script)], input=json.dumps(given), capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def encode(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


@pytest.mark.parametrize("resizing", get_args(Resizing))
def test_pictures_become_the_same_bytes(run_module: Any, resizing: Resizing) -> None:
    rng = np.random.default_rng(0)
    pictures = []
    for (height, width), _ in SIZES:
        picture = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        picture[: height // 2] = np.where(picture[: height // 2] < 128, 0, 255)  # steps as hard as can be
        pictures.append(picture)
    orders = []
    for picture, (size, input_size) in zip(pictures, SIZES, strict=True):
        rgba = np.concatenate([picture, rng.integers(0, 256, (*size, 1), dtype=np.uint8)], axis=2)
        padding = {} if resizing == "stretch" else {"padding_color": MEAN_COLOUR}
        orders.append(
            {"rgba": encode(rgba), "size": size, "input": {"size": input_size, "resize": resizing, **padding}}
        )
    code = """
        import { prepare } from "./preprocess.js";
        const result = given.map(({ rgba, size: [height, width], input }) =>
            Buffer.from(prepare(Buffer.from(rgba, "base64"), { height, width }, input)).toString("base64"));
    """
    for text, picture, (size, input_size) in zip(run_module(code, orders), pictures, SIZES, strict=True):
        actual = np.frombuffer(base64.b64decode(text), np.uint8).reshape(3, *input_size)
        expected = place(picture, input_size, resizing).transpose(2, 0, 1)
        np.testing.assert_array_equal(actual, expected, err_msg=f"{size} to {input_size}")


@pytest.mark.parametrize("resizing", get_args(Resizing))
def test_maps_come_back_the_same(run_module: Any, resizing: Resizing) -> None:
    code = """
        import { mapPlaces } from "./postprocess.js";
        const result = given.map(([[height, width], size, resize]) => {
            const { rows, columns } = mapPlaces({ height, width }, { size, resize });
            return [[...rows], [...columns]];
        });
    """
    rng = np.random.default_rng(0)
    sizes = SIZES + [
        (tuple(rng.integers(1, 900, 2).tolist()), tuple(rng.integers(1, 400, 2).tolist())) for _ in range(60)
    ]
    places = run_module(code, [[*pair, resizing] for pair in sizes])
    for (rows, columns), (size, input_size) in zip(places, sizes, strict=True):
        values = rng.integers(0, 256, input_size, dtype=np.uint8)
        expected = restore_map(values, size, input_size, resizing)
        np.testing.assert_array_equal(values[np.ix_(rows, columns)], expected, err_msg=f"{input_size} to {size}")


def test_boxes_move_to_the_picture_the_same(run_module: Any) -> None:
    boxes = np.random.default_rng(0).uniform(0, 300, (50, 4)).astype(np.float32)
    boxes[0] = 0, 0, 300, 300
    given = {
        "boxes": boxes.ravel().tolist(),
        "scores": np.linspace(1, 0, 50).tolist(),
        "labels": list(range(50)),
        "count": 47,
    }
    code = """
        import { readObjects } from "./postprocess.js";
        const { boxes, scores, labels, count } = given;
        const outputs = { boxes, scores, labels: labels.map(BigInt), counts: [BigInt(count)] };
        const result = readObjects(outputs, { height: 427, width: 640 }, { size: [300, 300] });
    """
    objects = run_module(code, given)
    assert [item["label"] for item in objects] == list(range(47))
    expected = to_original(boxes[:47], (300, 300), np.array([427, 640]))
    np.testing.assert_array_equal(np.array([item["box"] for item in objects], np.float32), expected)


def test_what_a_pixel_scores_is_its_best_probability(run_module: Any) -> None:
    probabilities = np.random.default_rng(0).random((4, 5, 6), dtype=np.float32)
    given = [probabilities.argmax(0).ravel().tolist(), probabilities.ravel().tolist()]
    code = """
        import { readMap } from "./postprocess.js";
        const { scores } = readMap({ classes: Uint8Array.from(given[0]), probabilities: Float32Array.from(given[1]) });
        const result = [...scores];
    """
    np.testing.assert_array_equal(np.array(run_module(code, given), np.float32), probabilities.max(0).ravel())


@pytest.mark.parametrize("names", [("background", *map(str, range(200))), tuple(map(str, range(150)))])
def test_colours_are_those_of_drawings(run_module: Any, names: tuple[str, ...]) -> None:
    code = """
        import { mapPalette, objectColour } from "./colours.js";
        const result = [given.map((_, label) => objectColour(label)), mapPalette(given)];
    """
    objects, palette = run_module(code, names)
    expected = np.array([draw.class_colour(label) for label in range(len(names))])
    np.testing.assert_array_equal(np.array(objects), expected)
    np.testing.assert_array_equal(np.array(palette), class_palette(names))


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("JPEG", {"icc_profile": PROFILE}),
        ("JPEG", {"icc_profile": bytes(100_000)}),  # in two segments
        ("JPEG", {"icc_profile": PROFILE, "progressive": True}),
        ("PNG", {"icc_profile": PROFILE}),
        ("WEBP", {"icc_profile": PROFILE, "quality": 80}),
        ("WEBP", {"icc_profile": PROFILE + bytes(1), "lossless": True}),  # chunks of odd length are padded
    ],
)
def test_profiles_of_colour_are_taken_out_of_pictures(run_module: Any, form: str, options: dict[str, Any]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.fromarray(draw_scene(1, 1, 7, 203, 331).image)
    buffer = io.BytesIO()
    picture.save(buffer, form, exif=exif, **options)
    assert Image.open(buffer).info["icc_profile"] == options["icc_profile"]
    content = buffer.getvalue()
    plain, cut, empty = without_profiles(run_module, [content, content[:300], b""])
    stored, kept = Image.open(buffer), Image.open(io.BytesIO(plain))
    assert "icc_profile" not in kept.info
    assert kept.getexif()[0x0112] == 6
    np.testing.assert_array_equal(np.array(kept), np.array(stored))
    assert without_profiles(run_module, [plain]) == [plain]
    assert len(cut) <= 300  # what is damaged is refused by the browser, not here
    assert empty == b""


def test_profiles_are_found_after_fill_bytes(run_module: Any) -> None:
    buffer = io.BytesIO()
    Image.fromarray(draw_scene(1, 1, 7, 40, 60).image).save(buffer, "JPEG", icc_profile=PROFILE)
    content = buffer.getvalue()
    filled = content.replace(b"\xff\xe2", b"\xff\xff\xff\xe2", 1)  # as JPEG allows before any marker
    assert Image.open(io.BytesIO(filled)).info["icc_profile"] == PROFILE
    (plain,) = without_profiles(run_module, [filled])
    kept = Image.open(io.BytesIO(plain))
    assert "icc_profile" not in kept.info
    np.testing.assert_array_equal(np.array(kept), np.array(Image.open(buffer)))


def test_gamma_is_taken_out_of_pictures(run_module: Any) -> None:
    buffer, gamma = io.BytesIO(), PngImagePlugin.PngInfo()
    gamma.add(b"gAMA", (100_000).to_bytes(4, "big"))
    Image.fromarray(draw_scene(1, 1, 7, 40, 60).image).save(buffer, "PNG", pnginfo=gamma)
    assert Image.open(buffer).info["gamma"] == 1
    (plain,) = without_profiles(run_module, [buffer.getvalue()])
    assert "gamma" not in Image.open(io.BytesIO(plain)).info
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(plain))), np.array(Image.open(buffer)))


def without_profiles(run_module: Any, files: list[bytes]) -> list[bytes]:
    code = """
        import { withoutProfile } from "./profile.js";
        const result = await Promise.all(given.map(async (text) => {
          const plain = await withoutProfile(new Blob([Buffer.from(text, "base64")]));
          return Buffer.from(await plain.arrayBuffer()).toString("base64");
        }));
    """
    encoded = run_module(code, [base64.b64encode(content).decode() for content in files])
    return [base64.b64decode(content) for content in encoded]
