"""Detection with PyTorch."""

import numpy as np
import torch
from numpy.typing import NDArray

from mbdet.models import Detector
from mbdet.ops import Postprocess
from mbdet.runtime.predictor import Predictor, to_original
from mbdet.runtime.types import Detections
from mbdet.types import PaddedDetections


class TorchPredictor(Predictor):
    """A network with its decoding, in evaluation mode.

    Args:
        network: The detector.
        class_names: The K names, in the order of the labels.
        postprocess: Decoding and NMS.
        device: Where to compute; by default the GPU if there is one.
    """

    def __init__(
        self,
        network: Detector,
        class_names: tuple[str, ...],
        postprocess: Postprocess = Postprocess(),  # noqa: B008 -- frozen
        device: str | None = None,
    ) -> None:
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.network = network.eval().to(self.device).to(memory_format=torch.channels_last)
        self.class_names = class_names
        self.input_size = network.input_size
        self.postprocess = postprocess

    @torch.inference_mode()
    def predict(self, images: NDArray[np.uint8], sizes: NDArray[np.int64]) -> list[Detections]:
        """See `Predictor.predict`."""
        batch = torch.from_numpy(images).to(self.device)
        padded = self.postprocess(self.network(batch), self.network.anchors, self.input_size)
        return to_detections(padded, self.input_size, sizes)


def to_detections(
    detections: PaddedDetections, input_size: tuple[int, int], sizes: NDArray[np.int64]
) -> list[Detections]:
    """Move detections to the host, without padding and in the pixels of the original images.

    Args:
        detections: Of B images.
        input_size: Height and width of the network input, to which each image was stretched.
        sizes: (B, 2) height and width of each original image.

    Returns:
        One per image, best first.
    """
    boxes, scores, labels, counts = (tensor.cpu().numpy() for tensor in detections)
    return [
        Detections(to_original(boxes[i, :count], input_size, size), scores[i, :count], labels[i, :count])
        for i, (count, size) in enumerate(zip(counts, sizes, strict=True))
    ]
