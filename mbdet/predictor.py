"""Prediction with PyTorch."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mbdet.errors import InputError
from mbdet.models import Classifier, Detector
from mbdet.ops import Postprocess
from mbdet.runtime.predictor import ClassifierPredictor, DetectorPredictor, to_original
from mbdet.runtime.types import Classification, Detections
from mbdet.types import PaddedDetections

TOP = 5  # classes that a `Classification` holds


class TorchPredictor(DetectorPredictor):
    """A detector with its decoding, in evaluation mode.

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
        self.device = settle(network, device)
        self.network = network
        self.class_names = class_names
        self.input_size = network.input_size
        self.postprocess = postprocess

    @torch.inference_mode()
    def predict(self, images: NDArray[np.uint8], sizes: NDArray[np.int64]) -> list[Detections]:
        """See `Predictor.predict`."""
        batch = torch.from_numpy(images).to(self.device)
        padded = self.postprocess(self.network(batch), self.network.anchors, self.input_size)
        return to_detections(padded, self.input_size, sizes)


class TorchClassifier(ClassifierPredictor):
    """A classifier in evaluation mode.

    Args:
        network: The classifier.
        class_names: The K names, in the order of the labels.
        eval_crop: Side of the central part of a picture that the network sees, in sides of the picture.
        device: Where to compute; by default the GPU if there is one.
    """

    def __init__(
        self, network: Classifier, class_names: tuple[str, ...], eval_crop: float = 0.875, device: str | None = None
    ) -> None:
        self.device = settle(network, device)
        self.network = network
        self.class_names = class_names
        self.input_size = network.input_size
        self.eval_crop = eval_crop

    @torch.inference_mode()
    def predict(self, images: NDArray[np.uint8], sizes: NDArray[np.int64]) -> list[Classification]:
        """See `Predictor.predict`."""
        return to_classifications(self.network(torch.from_numpy(images).to(self.device)))


# Which predictor serves a network.
PREDICTORS = ((Detector, TorchPredictor), (Classifier, TorchClassifier))


def settle(network: nn.Module, device: str | None) -> torch.device:
    """Put a network into evaluation mode on its device.

    Args:
        network: Changed in place.
        device: By default the GPU if there is one.

    Raises:
        InputError: If there is no such device.
    """
    place = torch.device("cuda" if torch.cuda.is_available() else "cpu") if device is None else find_device(device)
    network.eval().to(place).to(memory_format=torch.channels_last)
    return place


def find_device(name: str) -> torch.device:
    """Return a device that can be computed on.

    Raises:
        InputError: If PyTorch knows or has no such device.
    """
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # what PyTorch raises for an unknown name, and without CUDA
        reason = str(error).partition("\n")[0]
        raise InputError(f"device {name!r} cannot be used ({reason}); give cpu, or cuda with a GPU") from None
    return device


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


def to_classifications(logits: Tensor) -> list[Classification]:
    """Move the likeliest classes of each image to the host.

    Args:
        logits: (B, K).

    Returns:
        One per image, with five classes, or K if that is less.
    """
    scores, labels = logits.float().softmax(1).topk(min(TOP, logits.shape[1]))
    return [Classification(*pair) for pair in zip(scores.cpu().numpy(), labels.cpu().numpy(), strict=True)]
