"""A detector with the calling convention of torchvision's detection models."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mbdet.errors import InputError
from mbdet.models import Detector
from mbdet.ops import Postprocess, SSDLoss
from mbdet.types import DetectionTargets


class TorchvisionDetector(nn.Module):
    """A detector, its loss and its decoding in one module that is called as torchvision's detection models are.

    Loops written for those, such as torchvision's references/detection/engine.py, run unchanged. Images may differ in
    size. Each is stretched to the network input, bilinear and antialiased as everywhere in mbdet (torchvision's own
    models do not antialias), so that weights mean the same here and there.

    Args:
        network: The detector.
        loss: What it is trained on.
        postprocess: Decoding and NMS.

    Raises:
        InputError: If the decoding does not turn logits into scores the way the loss trains them.
    """

    def __init__(
        self,
        network: Detector,
        loss: SSDLoss,
        postprocess: Postprocess = Postprocess(),  # noqa: B008 -- frozen
    ) -> None:
        super().__init__()
        loss.check_decoding(postprocess)
        self.network = network
        self.loss = loss
        self.postprocess = postprocess

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Return losses in training, detections in evaluation.

        Args:
            images: (3, H, W) each, RGB, floating point in [0, 1].
            targets: For each image `boxes` (N, 4) xyxy in its pixels and `labels` (N,) int64 from 1 to K, as 0 is
                torchvision's background; N may be 0, and other entries are ignored. Needed in training only.

        Returns:
            In training scalars `classification` and `bbox_regression`, to be added up. In evaluation, for each image,
            `boxes` (N, 4) xyxy in its pixels, `scores` (N,), best first, and `labels` (N,) from 1 to K.

        Raises:
            InputError: If an image, box or label is not of this form, with its place in the lists.
        """
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        batch = torch.stack([self._as_input(image, index) for index, image in enumerate(images)])
        if not self.training:
            return self._detect(batch, sizes)
        if targets is None or len(targets) != len(images):
            raise InputError(
                f"{len(images)} images and {len(targets or ())} targets; training needs one for each image"
            )
        terms = self.loss(self.network(batch), self.network.anchors, self._as_targets(targets, sizes, batch.device))
        return {"classification": terms.classification, "bbox_regression": terms.localization}

    def _as_input(self, image: Tensor, index: int) -> Tensor:
        if image.ndim != 3 or image.shape[0] != 3 or not image.is_floating_point():
            raise InputError(
                f"images[{index}] is {tuple(image.shape)} of {image.dtype}; give (3, H, W) floating point in [0, 1], as"
                " torchvision.transforms.v2.ToDtype(torch.float32, scale=True) does"
            )
        return 255 * F.interpolate(image[None], self.network.input_size, mode="bilinear", antialias=True)[0]

    def _as_targets(
        self, targets: Sequence[Mapping[str, Tensor]], sizes: Sequence[tuple[int, int]], device: torch.device
    ) -> DetectionTargets:
        """Pad to one number of objects, in pixels of the network input and with labels from 0."""
        self._check(targets)
        shape = (len(targets), max(1, *(len(target["labels"]) for target in targets)))
        boxes = torch.zeros(*shape, 4, device=device)
        labels = torch.zeros(*shape, dtype=torch.int64, device=device)
        valid = torch.zeros(*shape, dtype=torch.bool, device=device)
        for index, (target, size) in enumerate(zip(targets, sizes, strict=True)):
            count = len(target["labels"])
            boxes[index, :count] = target["boxes"] / self._scale(size, device)
            labels[index, :count] = target["labels"] - 1
            valid[index, :count] = True
        return DetectionTargets(boxes, labels, valid)

    def _check(self, targets: Sequence[Mapping[str, Tensor]]) -> None:
        for index, target in enumerate(targets):
            shape, count = tuple(target["boxes"].shape), len(target["labels"])
            if shape != (count, 4):
                raise InputError(
                    f"targets[{index}]: boxes are {shape} for {count} labels; give (N, 4), and (0, 4) for an image"
                    " without objects"
                )
        boxes = torch.cat([target["boxes"] for target in targets])
        labels = torch.cat([target["labels"] for target in targets])
        wrong_box = ~((boxes[:, 2:] > boxes[:, :2]).all(dim=1) & boxes.isfinite().all(dim=1))
        wrong = wrong_box | (labels < 1) | (labels > self.network.num_classes)
        if not wrong.any():  # the only wait for the device
            return
        place = int(wrong.nonzero()[0])
        index = [index for index, target in enumerate(targets) for _ in target["labels"]][place]
        if wrong_box[place]:
            raise InputError(
                f"targets[{index}]: box {boxes[place].tolist()} has no positive width and height, or is not finite;"
                " give xyxy pixels, and leave such boxes out"
            )
        raise InputError(
            f"targets[{index}]: label {labels[place].item()} is outside 1..{self.network.num_classes}; labels count"
            " from 1, as in torchvision"
        )

    def _detect(self, batch: Tensor, sizes: Sequence[tuple[int, int]]) -> list[dict[str, Tensor]]:
        padded = self.postprocess(self.network(batch), self.network.anchors, self.network.input_size)
        return [
            {
                "boxes": padded.boxes[index, :count] * self._scale(size, batch.device),
                "scores": padded.scores[index, :count],
                "labels": padded.labels[index, :count] + 1,
            }
            for index, (count, size) in enumerate(zip(padded.counts.tolist(), sizes, strict=True))
        ]

    def _scale(self, size: tuple[int, int], device: torch.device) -> Tensor:
        """Return what boxes (N, 4) in the network input are multiplied with for an image of `size`."""
        height, width = self.network.input_size
        return torch.tensor([size[1] / width, size[0] / height] * 2, device=device)
