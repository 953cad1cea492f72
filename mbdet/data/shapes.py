"""The built-in data set: scenes of shapes, drawn on first use, so that everything can be tried without a download."""

from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from mbdet.data.shapes_files import Instance, Manifest, Scene, SceneWriter, install, is_made
from mbdet.errors import InputError

CLASS_NAMES = ("circle", "square", "triangle", "star", "cross", "ring")
_VERSION = 1  # counts up when the same seed draws other scenes
_MIN_SIDE = 64  # px of the image
_MIN_DIAMETER = 24.0  # px
_MAX_DIAMETER = 0.7  # of the image height
_MAX_OBJECTS = 6
_MIN_VISIBLE_AREA = 30  # px
_MIN_VISIBLE_SHARE = 0.6  # of the whole object, occluded and cut-off parts included
_MIN_CONTRAST = 28.0  # CIE76 colour difference between an object and what lies around it
# As bananas are mostly yellow: a class that colour hints at can be learnt in minutes, from scratch, on a CPU.
_TYPICAL = 0.95  # share of objects in the hue of their class
_ATTEMPTS = 30  # per object, before it is left out
_SUPERSAMPLING = 4

# Empty images and crowds come by index and not by chance, so that a set of a dozen images has them too.
_EMPTY_EVERY, _EMPTY_AT = 25, 7
_CROWD_EVERY, _CROWD_AT = 20, 3

Floats = NDArray[np.float32]
Points = NDArray[np.float64]


def make_shapes(
    root: Path, *, seed: int = 0, num_train: int = 2000, num_val: int = 160, height: int = 240, width: int = 320
) -> Path:
    """Draw the data set of shapes in COCO and Pascal VOC layout, unless it is there already.

    Every image follows from the seed, its split and its index alone. The set appears at `root` complete or not at all,
    also when several processes start at once.

    Args:
        root: folder of the set; made anew where it holds a set of other parameters.
        seed: not negative.
        num_train: number of training images.
        num_val: number of validation images.
        height: of every image, in pixels.
        width: of every image, in pixels.

    Returns:
        `root`, which holds `annotations/instances_{train,val}.json`, `train/`, `val/` and `VOC/`.

    Raises:
        InputError: `root` holds something else than such a set, or a number is out of range.
    """
    _check_numbers(seed, num_train, num_val, height, width)
    manifest = Manifest(_VERSION, seed, num_train, num_val, height, width)
    place = root.resolve()  # a rename cannot replace a symbolic link by a folder
    if is_made(place, manifest):
        return root
    place.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{place.name}-", dir=place.parent) as folder:
        draft = Path(folder) / "new"
        _draw_set(draft, manifest)
        install(draft, Path(folder) / "old", place, manifest)
    return root


def _check_numbers(seed: int, num_train: int, num_val: int, height: int, width: int) -> None:
    if seed < 0:
        raise InputError(f"shapes: seed is {seed}; give 0 or more")
    if min(num_train, num_val) < 1:
        raise InputError(f"shapes: {num_train} training and {num_val} validation images; give at least 1 of each")
    if min(height, width) < _MIN_SIDE:
        raise InputError(f"shapes: images of {height} x {width} px; give at least {_MIN_SIDE} x {_MIN_SIDE}")


def _draw_set(root: Path, manifest: Manifest) -> None:
    splits = [(0, "train", i) for i in range(manifest.num_train)] + [(1, "val", i) for i in range(manifest.num_val)]
    writer = SceneWriter(root, CLASS_NAMES)
    # On stderr, because stdout belongs to the results of a command.
    jobs = track(splits, "Drawing shapes", console=Console(stderr=True))
    for image_id, (split, folder, index) in enumerate(jobs, start=1):
        writer.add(folder, image_id, draw_scene(manifest.seed, split, index, manifest.height, manifest.width))
    writer.finish(manifest)


def draw_scene(seed: int, split: int, index: int, height: int, width: int) -> Scene:
    """Draw one scene, the same for the same arguments.

    Args:
        seed: of the data set.
        split: 0 training, 1 validation.
        index: of the image in its split.
        height: in pixels.
        width: in pixels.

    Returns:
        The scene with 0 to 6 objects and at times a crowd. At least 60 % of each is visible.
    """
    rng = np.random.default_rng([seed, split, index])
    canvas = _Canvas(rng, height, width)
    if index % _EMPTY_EVERY != _EMPTY_AT:
        if index % _CROWD_EVERY == _CROWD_AT:
            canvas.place_crowd(int(rng.integers(len(CLASS_NAMES))))
        for _ in range(int(rng.integers(1, _MAX_OBJECTS + 1))):
            canvas.place_object(int(rng.integers(len(CLASS_NAMES))))
    return canvas.finish()


class _Canvas:
    """A scene while it is drawn; later objects hide earlier ones."""

    def __init__(self, rng: np.random.Generator, height: int, width: int) -> None:
        self.rng = rng
        self.height, self.width = height, width
        self.image = _background(rng, height, width)  # (H, W, 3) RGB, 0..1
        self.owner = np.zeros((height, width), np.uint8)
        self.instances: list[Instance] = []
        self.visible_areas = self.full_areas = np.zeros(0, np.int64)  # px of each instance

    def place_object(self, label: int) -> None:
        """Draw an object of this class at a random place where it and all others stay recognisable, if one is found."""
        for _ in range(_ATTEMPTS):
            largest = _MAX_DIAMETER * self.height
            # Uniform in the logarithm would make most objects tiny; the power favours larger ones.
            diameter = _MIN_DIAMETER * (largest / _MIN_DIAMETER) ** (self.rng.random() ** 0.4)
            centre = self.rng.uniform((0, 0), (self.width, self.height))
            if self._place(self._shape(label, diameter, centre), label, crowd=False):
                return

    def place_crowd(self, label: int) -> None:
        """Draw a group of tiny shapes of this class, annotated as one region."""
        for _ in range(_ATTEMPTS):
            diameter = self.rng.uniform(8, 12)
            columns, rows = self.rng.integers(3, 5, 2)
            grid = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2)
            extent = 1.5 * diameter * np.array([columns, rows])
            corner = self.rng.uniform(0, 1, 2) * np.maximum((self.width, self.height) - extent, 0)
            centres = corner + 1.5 * diameter * (grid + 0.5 + self.rng.uniform(-0.15, 0.15, grid.shape))
            contours = [contour for centre in centres for contour in self._shape(label, diameter, centre)]
            if self._place(contours, label, crowd=True):
                return

    def finish(self) -> Scene:
        """Light the picture unevenly, add sensor noise and hand it over."""
        light = 1 + 0.3 * (_noise(self.rng, self.height, self.width, cell=self.width / 2) - 0.5)
        grain = self.rng.standard_normal(self.owner.shape, np.float32) * self.rng.uniform(0.005, 0.02)
        self.image *= cv2.merge([light] * 3)
        self.image += cv2.merge([grain] * 3)
        image = (255 * self.image.clip(0, 1) + 0.5).astype(np.uint8)
        return Scene(image, self.owner, self.instances)

    def _shape(self, label: int, diameter: float, centre: Points) -> list[Points]:
        stretch = float(np.exp(self.rng.uniform(-0.12, 0.12)))
        scale = diameter / 2 * np.array([[stretch], [1 / stretch]])
        pose = scale * _rotation(self.rng.uniform(0, 2 * np.pi))
        return [contour @ pose + centre for contour in _outline(self.rng, label)]

    def _place(self, contours: list[Points], label: int, crowd: bool) -> bool:
        window, alpha, full_area = _rasterise(contours, self.height, self.width)
        inside = alpha >= 0.5
        hidden = np.bincount(self.owner[window][inside], minlength=len(self.instances) + 1)[1:]
        visible = np.append(self.visible_areas - hidden, inside.sum())
        full_areas = np.append(self.full_areas, full_area)
        if (visible < np.maximum(_MIN_VISIBLE_AREA, _MIN_VISIBLE_SHARE * full_areas)).any():
            return False
        below = self.image[window]
        colours = _contrasting_colours(self.rng, label, below, inside)
        if colours is None:
            return False
        fill = _colourise([_texture(self.rng, *inside.shape)], base=colours[0], tints=colours[1:] - colours[0])
        below += cv2.merge([alpha] * 3) * (fill - below)
        self.instances.append(Instance(label, crowd, truncated=int(visible[-1]) < full_area))
        self.owner[window][inside] = len(self.instances)
        self.visible_areas, self.full_areas = visible, full_areas
        return True


def _outline(rng: np.random.Generator, label: int) -> list[Points]:
    """Contours (N, 2) of a shape of this class about the origin, in units of its radius."""
    match CLASS_NAMES[label]:
        case "circle":
            return [_spokes([0.9] * 60)]
        case "square":
            return [_spokes([1.1] * 4) @ _rotation(np.pi / 4)]  # upright, so that a stretch makes a rectangle of it
        case "triangle":
            return [_spokes([1.1] * 3)]
        case "star":
            return [_spokes([1.1, rng.uniform(0.42, 0.55)] * 5)]
        case "cross":
            arm = rng.uniform(0.2, 0.32)
            quarter = np.array([(arm, arm), (arm, 1.0), (-arm, 1.0)])
            return [np.concatenate([quarter @ _rotation(k * np.pi / 2) for k in range(4)])]
        case _:
            return [_spokes([1.0] * 60), _spokes([rng.uniform(0.45, 0.65)] * 60)]


def _spokes(radii: list[float]) -> Points:
    angles = np.arange(len(radii)) * (2 * np.pi / len(radii))
    return np.stack((radii * np.cos(angles), radii * np.sin(angles)), axis=1)


def _rotation(angle: float) -> Points:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([(cos, sin), (-sin, cos)], np.float64)


def _rasterise(contours: list[Points], height: int, width: int) -> tuple[tuple[slice, slice], Floats, int]:
    """Window (rows, columns) of the image that a shape touches, its coverage 0..1 there, its full area in pixels."""
    points = np.concatenate(contours)
    left, top = np.floor(points.min(axis=0)).astype(int)
    right, bottom = np.ceil(points.max(axis=0)).astype(int) + 1
    fine = np.zeros(((bottom - top) * _SUPERSAMPLING, (right - left) * _SUPERSAMPLING), np.uint8)
    # Several contours in one call fill by the even-odd rule, which leaves the hole of a ring open.
    cv2.fillPoly(fine, [((c - (left, top)) * _SUPERSAMPLING).astype(np.int32) for c in contours], 255)
    alpha = np.asarray(cv2.resize(fine, (right - left, bottom - top), interpolation=cv2.INTER_AREA) / 255, np.float32)
    rows, columns = slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width))
    part = alpha[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    return (rows, columns), part, int((alpha >= 0.5).sum())


def _typical_colours(rng: np.random.Generator, label: int) -> Floats:
    """Sixteen colours (16, 3) of the hue that a class has more often than not."""
    hue = (360 * label / len(CLASS_NAMES) + rng.normal(0, 8, 16)) % 360
    hsv = np.stack([hue, rng.uniform(0.7, 1, 16), rng.uniform(0.5, 1, 16)], axis=1).astype(np.float32)
    return np.asarray(cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0], np.float32)


def _contrasting_colours(
    rng: np.random.Generator, label: int, below: Floats, inside: NDArray[np.bool_]
) -> Floats | None:
    """Two colours (2, 3) whose mixtures stand out along the outline from what was there, None if chance has none."""
    first = _typical_colours(rng, label) if rng.random() < _TYPICAL else rng.random((16, 3), np.float32)
    second = (first + rng.uniform(-0.1, 0.1, first.shape).astype(np.float32)).clip(0, 1)
    pairs = np.stack((first, (first + second) / 2, second), axis=1)  # (16, 3 mixtures, 3)
    edge = cv2.morphologyEx(inside.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    around = np.asarray(cv2.blur(below, (5, 5)), np.float32)[edge]
    around = around[:: len(around) // 60 + 1]
    difference = np.linalg.norm(_lab(pairs)[:, :, None] - _lab(around[None]), axis=-1)
    # Nine tenths of the outline must stand out; a pattern below may come near the colour here and there.
    contrast = np.sort(difference)[..., len(around) // 10].min(axis=1)
    good = np.flatnonzero(contrast >= _MIN_CONTRAST)
    return pairs[good[0], ::2] if len(good) else None


def _lab(rgb: Floats) -> Floats:
    """CIE L*a*b* of colours (N, M, 3)."""
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB), np.float32)


def _background(rng: np.random.Generator, height: int, width: int) -> Floats:
    base, other = rng.uniform(0.05, 0.95, (2, 3)).astype(np.float32)
    patterns = [
        _ramp(rng, height, width),
        _texture(rng, height, width) - 0.5,
        *(_noise(rng, height, width, cell) - 0.5 for cell in (5, 20, 80)),
    ]
    tints = np.concatenate([0.7 * (other - base)[None], rng.uniform(-0.22, 0.22, (4, 3))]).astype(np.float32)
    return _colourise(patterns, base, tints).clip(0, 1)


def _colourise(patterns: list[Floats], base: Floats, tints: Floats) -> Floats:
    """An image (H, W, 3): `base` (3,) plus each pattern (H, W) times its row of `tints` (N, 3)."""
    # One call instead of N broadcasts over three channels, at which NumPy is slow.
    return np.asarray(cv2.transform(cv2.merge(patterns), np.column_stack((tints.T, base))), np.float32)


def _texture(rng: np.random.Generator, height: int, width: int) -> Floats:
    """A random pattern (height, width) of values 0..1."""
    period = rng.uniform(4, 24)
    match rng.integers(4):
        case 0:
            return _ramp(rng, height, width)
        case 1:
            return _noise(rng, height, width, period)
        case 2:
            stripes, _ = _waves(rng, height, width, period)
            return (0.5 + stripes).clip(0, 1)
        case _:
            waves, crossing = _waves(rng, height, width, period)
            return (0.5 + 2 * waves * crossing).clip(0, 1)


def _axes(rng: np.random.Generator, height: int, width: int) -> tuple[Floats, Floats]:
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * cos + y * sin, y * cos - x * sin


def _ramp(rng: np.random.Generator, height: int, width: int) -> Floats:
    along, _ = _axes(rng, height, width)
    along -= along.min()
    return np.asarray(along / max(float(along.max()), 1.0), np.float32)


def _waves(rng: np.random.Generator, height: int, width: int, period: float) -> tuple[Floats, Floats]:
    along, across = _axes(rng, height, width)
    frequency = np.float32(2 * np.pi / period)
    return np.sin(along * frequency), np.sin(across * frequency)


def _noise(rng: np.random.Generator, height: int, width: int, cell: float) -> Floats:
    """Smooth noise (height, width) of values 0..1 that changes over about `cell` pixels."""
    grid = rng.random((int(height / cell) + 2, int(width / cell) + 2), np.float32)
    return np.asarray(cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
