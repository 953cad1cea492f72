"""What an image and its mask of classes go through, in training and in evaluation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import albumentations as A  # type: ignore[import-untyped]  # it ships no py.typed
import numpy as np
from albumentations.core.type_definitions import Targets  # type: ignore[import-untyped]  # likewise
from numpy.typing import NDArray

from mbdet.data.transforms import photometric_distortion, resize_mask, run
from mbdet.errors import InputError
from mbdet.runtime.image import MEAN_COLOUR, Resizing, place, placed_size, resize, zoom_to_fit
from mbdet.runtime.types import IGNORED

# From an image (H, W, 3) and its mask (H, W) to the network input.
SegmentationTransform = Callable[[NDArray[np.uint8], NDArray[np.uint8]], tuple[NDArray[np.uint8], NDArray[np.uint8]]]


@dataclass(frozen=True)
class SegmentationAugmentation:
    """How strongly to augment: DeepLab's settings (Chen et al. 2017, section 4.1), and SSD's colours.

    Args:
        min_scale: Smallest scale of an image; 1 is the scale at which the evaluation shows it.
        max_scale: Largest scale.
        flip: Probability of a horizontal flip; 0 turns it off.
        photometric: Probability of distorting brightness, contrast, saturation and hue; 0 turns it off.

    Raises:
        InputError: If a number is out of range.
    """

    min_scale: float = 0.5
    max_scale: float = 2.0
    flip: float = 0.5
    photometric: float = 0.5

    def __post_init__(self) -> None:
        for name in ("flip", "photometric"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"augmentation.{name} is {getattr(self, name)}; give a probability from 0 to 1")
        if not 0 < self.min_scale <= self.max_scale:
            raise InputError(
                f"augmentation.min_scale is {self.min_scale} and max_scale {self.max_scale}; give numbers above 0, the"
                " smaller first"
            )


DEEPLAB_AUGMENTATION = SegmentationAugmentation()


class SegmentationTrainTransform:
    """Colours, random scale and crop, flip.

    Colours come first so that the padding keeps the mean colour.

    Args:
        size: Height and width of the network input.
        resizing: How the evaluation brings images there, which says what scale 1 is.
        augmentation: The strengths.
    """

    def __init__(
        self,
        size: tuple[int, int],
        resizing: Resizing = "stretch",
        augmentation: SegmentationAugmentation = DEEPLAB_AUGMENTATION,
    ) -> None:
        self._pipeline = A.Compose(
            [
                photometric_distortion(augmentation.photometric),
                RandomScaledCrop(size, (augmentation.min_scale, augmentation.max_scale), resizing),
                A.HorizontalFlip(p=augmentation.flip),
            ]
        )

    def __call__(
        self, image: NDArray[np.uint8], mask: NDArray[np.uint8]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Augment an image (H, W, 3) and its mask (H, W) alike, with randomness from torch."""
        result = run(self._pipeline, image=image, mask=mask)
        return result["image"], result["mask"]


@dataclass(frozen=True)
class SegmentationEvalTransform:
    """Resize to the network input, as the device does, the mask to the nearest pixel and padded with 255.

    Args:
        size: Height and width of the network input.
        resizing: How to bring images there.
    """

    size: tuple[int, int]
    resizing: Resizing = "stretch"

    def __call__(
        self, image: NDArray[np.uint8], mask: NDArray[np.uint8]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Prepare an image (H, W, 3) and its mask (H, W)."""
        height, width = placed_size((image.shape[0], image.shape[1]), self.size, self.resizing)
        classes = np.full(self.size, IGNORED, dtype=np.uint8)
        classes[:height, :width] = resize_mask(mask, (height, width))
        return place(image, self.size, self.resizing), classes


class _Side(NamedTuple):
    """Which pixels of one side of an image lie where in the network input."""

    source: slice
    target: slice


class RandomScaledCrop(A.DualTransform):  # type: ignore[misc]  # untyped base
    """Scale an image, its aspect kept, and cut the network input out of it at random.

    Where the image is smaller than the network input it lies in it at random, in the mean colour. Cutting comes before
    scaling, so that nothing is computed which the crop does not show.

    Args:
        size: Height and width of the network input.
        scale: Smallest and largest scale; it is uniform between them.
        resizing: How the evaluation brings images to the network input: scale 1 shows them as large. Stretching counts
            as fitting, whose scale is that of the longer side.
        p: Probability.
    """

    _targets = (Targets.IMAGE, Targets.MASK)

    def __init__(
        self, size: tuple[int, int], scale: tuple[float, float], resizing: Resizing = "stretch", p: float = 1.0
    ) -> None:
        super().__init__(p=p)
        self.size, self.scale, self.resizing = size, scale, resizing

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, _Side]:
        """Draw the scale and the place."""
        sides = params["shape"][:2]
        zoom = zoom_to_fit(sides, self.size)
        if self.resizing == "pad":
            zoom = min(zoom, 1.0)
        zoom *= self.py_random.uniform(*self.scale)
        rows, columns = (self._draw_side(side, limit, zoom) for side, limit in zip(sides, self.size, strict=True))
        return {"rows": rows, "columns": columns}

    def apply(self, img: NDArray[np.uint8], rows: _Side, columns: _Side, **params: Any) -> NDArray[np.uint8]:
        """Cut and scale the image."""
        canvas = np.full((*self.size, 3), MEAN_COLOUR, dtype=np.uint8)
        canvas[rows.target, columns.target] = resize(img[rows.source, columns.source], _extent(rows, columns))
        return canvas

    def apply_to_mask(self, mask: NDArray[np.uint8], rows: _Side, columns: _Side, **params: Any) -> NDArray[np.uint8]:
        """Cut and scale the mask."""
        canvas = np.full(self.size, IGNORED, dtype=np.uint8)
        canvas[rows.target, columns.target] = resize_mask(mask[rows.source, columns.source], _extent(rows, columns))
        return canvas

    def _draw_side(self, side: int, limit: int, zoom: float) -> _Side:
        """Lay a window of `limit` network pixels over a side of so many image pixels."""
        window = max(1, round(limit / zoom))
        start = self.py_random.randint(min(0, side - window), max(0, side - window))
        first, end = max(start, 0), min(start + window, side)
        target = min(round((first - start) * limit / window), limit - 1)
        target_end = max(round((end - start) * limit / window), target + 1)
        return _Side(slice(first, end), slice(target, target_end))


def _extent(rows: _Side, columns: _Side) -> tuple[int, int]:
    return rows.target.stop - rows.target.start, columns.target.stop - columns.target.start
