"""What a demo shows: a picture with what was found in it, above a strip with classes and times."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from mbdet.runtime.draw import draw_classification, draw_detections
from mbdet.runtime.draw_maps import draw_legend, lay_over
from mbdet.runtime.multitask import MultiTaskPredictor
from mbdet.runtime.predictor import Predictor
from mbdet.runtime.types import Classification, Detections, MultiTaskPrediction, Segmentation

_GROUND, _TEXT = (24, 24, 24), (235, 235, 235)
_LEGEND_LINES = 2  # further classes are cut off, so that the strip never changes its height
_GAP = "   "


class Canvas:
    """Pictures of one size, whatever sizes come.

    Args:
        predictor: What finds something.
        size: Height and width of the first picture.
        samples: What `draw` will get as words, as long as they may become.
    """

    def __init__(self, predictor: Predictor[Any], size: tuple[int, int], samples: Sequence[str]) -> None:
        self._predictor = predictor
        self._size = size
        side = math.sqrt(size[0] * size[1])
        self._font_size = max(11, round(side / 36))
        self._font = ImageFont.load_default(size=self._font_size)
        self._line = math.ceil(1.6 * self._font_size)
        self._margin = self._font_size // 2
        self._word_width = max(self._font.getlength(word + _GAP) for word in samples)
        # In columns, so that nothing moves when a number gets another digit.
        self._columns = max(1, int((size[1] - 2 * self._margin) / self._word_width))
        self._legend_height = _LEGEND_LINES * self._line if predictor.kind in ("segmenter", "multitask network") else 0
        self._is_classifier = predictor.kind == "classifier"
        lines = math.ceil(len(samples) / self._columns) + self._is_classifier
        height, width = size[0] + self._legend_height + lines * self._line + self._margin, size[1]
        self._shape = (height + height % 2, width + width % 2)  # as codecs want them

    def draw(
        self, image: NDArray[np.uint8], found: Any, numbers: NDArray[np.int64] | None, words: Sequence[str]
    ) -> NDArray[np.uint8]:
        """Draw one picture.

        Args:
            image: (H, W, 3) RGB.
            found: What was found in it.
            numbers: Of the objects, as `draw_detections` takes them.
            words: What to write below.

        Returns:
            (height, width, 3) RGB, both even and the same each time; pictures of another size are made to fit.
        """
        canvas = Image.new("RGB", self._shape[::-1], _GROUND)
        drawn = Image.fromarray(self._draw_found(image, found, numbers))
        if drawn.size != self._size[::-1]:
            drawn = ImageOps.pad(drawn, self._size[::-1])
        canvas.paste(drawn, (0, 0))
        top = self._size[0]
        if self._legend_height:
            maps = found.segmentation if isinstance(found, MultiTaskPrediction) else found
            legend = draw_legend(maps.classes, self._segment_names(), self._size[1], self._font_size)
            canvas.paste((255, 255, 255), (0, top, self._size[1], top + self._legend_height))
            if len(legend):  # Pillow has no pictures without rows
                canvas.paste(Image.fromarray(legend[: self._legend_height]), (0, top))
            top += self._legend_height
        pen = ImageDraw.Draw(canvas)
        if self._is_classifier:
            names = self._predictor.class_names
            text = _GAP.join(f"{names[label]} {score:.0%}" for score, label in zip(*found, strict=True))
            pen.text((self._margin, top + self._line // 2), text, fill=_TEXT, font=self._font, anchor="lm")
            top += self._line
        for index, word in enumerate(words):
            row, column = divmod(index, self._columns)
            place = (self._margin + column * self._word_width, top + row * self._line + self._line // 2)
            pen.text(place, word, fill=_TEXT, font=self._font, anchor="lm")
        return np.array(canvas)

    def _draw_found(self, image: NDArray[np.uint8], found: Any, numbers: NDArray[np.int64] | None) -> NDArray[np.uint8]:
        """Draw what was found, without a legend."""
        names = self._predictor.class_names
        match found:
            case Detections():
                return draw_detections(image, found, names, 0.0, ids=numbers)
            case Classification():
                return draw_classification(image, found, names)
            case Segmentation():
                return lay_over(image, found.classes, names)
            case MultiTaskPrediction():
                laid = lay_over(image, found.segmentation.classes, self._segment_names())
                return draw_detections(laid, found.detections, names, 0.0, ids=numbers)
            case _:
                return self._predictor.draw(image, found)

    def _segment_names(self) -> Sequence[str]:
        predictor = self._predictor
        return predictor.segment_names if isinstance(predictor, MultiTaskPredictor) else predictor.class_names
