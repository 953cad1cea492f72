"""One backbone, two heads: objects and a class for every pixel from a single pass."""

from collections.abc import Callable

from torch import Tensor

from mbdet.backbones.base import Backbone
from mbdet.models.detector import Detector
from mbdet.models.network import Network
from mbdet.models.segmenter import Segmenter
from mbdet.types import MultiTaskOutput


class MultiTask(Network):
    """A detector and a segmenter on the maps of the same backbone.

        size = (320, 320)
        MultiTask(
            MobileNetV2(),
            partial(SSDLite, num_classes=20, input_size=size),
            partial(LRASPP, num_classes=21, input_size=size),
        )

    The state dict holds the backbone once, under `backbone`; what the heads add to it is under `detector` and
    `segmenter`, with the names that they have alone.

    Args:
        backbone: Gives the feature maps to both.
        detector: Makes the detector on it. In a config, the detector's class and its arguments but for the backbone.
        segmenter: Makes the segmenter, likewise, for the same `input_size`.

    Attributes:
        num_classes: K of the detector, background not counted; the pixels' classes are `segmenter.num_classes`.
        detector: The detector without its backbone: use its `from_features`.
        segmenter: The segmenter, likewise.

    Raises:
        ValueError: If the heads are for images of different sizes, or for another backbone.
    """

    kind = "multitask network"

    def __init__(
        self,
        backbone: Backbone,
        detector: Callable[[Backbone], Detector],
        segmenter: Callable[[Backbone], Segmenter],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.detector, self.segmenter = detector(backbone), segmenter(backbone)
        for head in (self.detector, self.segmenter):
            if head.backbone is not backbone:
                raise ValueError(f"the {head.kind} was made on another backbone; make it on the one that it is given")
            del head.backbone  # else the state dict would hold it three times
        if self.detector.input_size != self.segmenter.input_size:
            raise ValueError(
                f"the detector's input_size is {self.detector.input_size}, the segmenter's"
                f" {self.segmenter.input_size}; give both the same"
            )
        self.num_classes = self.detector.num_classes
        self.input_size = self.detector.input_size

    def forward(self, images: Tensor) -> MultiTaskOutput:
        """Predict, in training and in evaluation alike, with one pass of the backbone.

        Args:
            images: (B, 3, H, W) RGB in [0, 255], uint8 or floating point, of `input_size`.

        Returns:
            What the detector and the segmenter return of these images alone.

        Raises:
            ValueError: If the images are not of `input_size`.
        """
        self.detector.check_images(images)
        features = self.backbone(images)
        return MultiTaskOutput(
            self.detector.from_features(features), self.segmenter.from_features(features, images.shape[-2:])
        )
