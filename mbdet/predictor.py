"""Prediction with PyTorch."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from mbdet.errors import InputError
from mbdet.models import Classifier, Detector, MultiTask, Segmenter
from mbdet.ops import Postprocess
from mbdet.runtime.image import Resizing
from mbdet.runtime.multitask import MultiTaskPredictor
from mbdet.runtime.predictor import (
    TOP,
    ClassifierPredictor,
    DetectorPredictor,
    SegmenterPredictor,
    restore_segmentations,
    to_original,
)
from mbdet.runtime.types import Classification, Detections, MultiTaskPrediction, Segmentation
from mbdet.types import PaddedDetections


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


class TorchSegmenter(SegmenterPredictor):
    """A segmenter in evaluation mode, tested at one scale or at several.

    Args:
        network: The segmenter.
        class_names: The K names, in the order of the labels.
        resizing: How pictures are brought to the network input.
        test_scales: Sizes at which each image is tested, in sizes of the network input; the probabilities are averaged.
        test_flip: Whether each is tested mirrored too.
        device: Where to compute; by default the GPU if there is one.

    Raises:
        InputError: If a scale is not above 0, or there is none.
    """

    def __init__(
        self,
        network: Segmenter,
        class_names: tuple[str, ...],
        resizing: Resizing = "stretch",
        test_scales: Sequence[float] = (1.0,),
        test_flip: bool = False,
        device: str | None = None,
    ) -> None:
        if min(test_scales, default=0) <= 0:
            raise InputError(f"test_scales is {list(test_scales)}; give one or more numbers above 0")
        self.device = settle(network, device)
        self.network = network
        self.class_names = class_names
        self.input_size = network.input_size
        self.resizing: Resizing = resizing
        self.test_scales, self.test_flip = tuple(test_scales), test_flip

    @torch.inference_mode()
    def predict(self, images: NDArray[np.uint8], sizes: NDArray[np.int64]) -> list[Segmentation]:
        """See `Predictor.predict`."""
        return to_segmentations(self.probabilities(torch.from_numpy(images).to(self.device)), sizes, self.resizing)

    def probabilities(self, images: Tensor) -> Tensor:
        """Return the probability of each class at each pixel, the mean over scales and mirror images.

        Args:
            images: (B, 3, H, W) uint8 RGB.

        Returns:
            (B, K, H, W).
        """
        total = images.new_zeros((), dtype=torch.float32)
        for scale in self.test_scales:
            # Google's scale_dimension: 513 becomes 257 and 769, which the corners of their maps fit.
            size = [max(1, int((side - 1) * scale + 1)) for side in images.shape[2:]]
            resized = images if scale == 1 else F.interpolate(images.float(), size, mode="bilinear", antialias=True)
            for mirrored in (False, True)[: 1 + self.test_flip]:
                output = self.network(resized.flip(3) if mirrored else resized)
                found = output.logits.float().softmax(1)
                found = found.flip(3) if mirrored else found
                if scale != 1:
                    found = F.interpolate(found, images.shape[2:], mode="bilinear")
                total = total + found
        return total / (len(self.test_scales) * (1 + self.test_flip))


class TorchMultiTask(MultiTaskPredictor):
    """Two heads on one backbone in evaluation mode.

    Args:
        network: The network.
        class_names: The names of the objects' classes, in the order of the labels.
        segment_names: The names of the pixels' classes, likewise.
        postprocess: Decoding and NMS.
        device: Where to compute; by default the GPU if there is one.
    """

    def __init__(
        self,
        network: MultiTask,
        class_names: tuple[str, ...],
        segment_names: tuple[str, ...],
        postprocess: Postprocess = Postprocess(),  # noqa: B008 -- frozen
        device: str | None = None,
    ) -> None:
        self.device = settle(network, device)
        self.network = network
        self.class_names, self.segment_names = class_names, segment_names
        self.input_size = network.input_size
        self.postprocess = postprocess

    @torch.inference_mode()
    def predict(self, images: NDArray[np.uint8], sizes: NDArray[np.int64]) -> list[MultiTaskPrediction]:
        """See `Predictor.predict`."""
        detection, segmentation = self.network(torch.from_numpy(images).to(self.device))
        padded = self.postprocess(detection, self.network.detector.anchors, self.input_size)
        objects = to_detections(padded, self.input_size, sizes)
        maps = to_segmentations(segmentation.logits.float().softmax(1), sizes, "stretch")
        return [MultiTaskPrediction(*pair) for pair in zip(objects, maps, strict=True)]


# Which predictor serves a network.
PREDICTORS = (
    (Detector, TorchPredictor),
    (Classifier, TorchClassifier),
    (Segmenter, TorchSegmenter),
    (MultiTask, TorchMultiTask),
)


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


def to_segmentations(probabilities: Tensor, sizes: NDArray[np.int64], resizing: Resizing) -> list[Segmentation]:
    """Move the likeliest class of each pixel, and its probability, to the host and to the original images.

    Args:
        probabilities: (B, K, H, W) of the network input.
        sizes: (B, 2) height and width of each original image.
        resizing: How the images were brought to the network input.

    Returns:
        One per image.
    """
    scores, classes = probabilities.max(1)
    return restore_segmentations(classes.to(torch.uint8).cpu().numpy(), scores.cpu().numpy(), sizes, resizing)


def number_classes(num_classes: int) -> tuple[str, ...]:
    """Return names for classes that have none."""
    return tuple(f"class {label}" for label in range(num_classes))
