"""torchvision's contract against our own loss and predictor, and in a loop like torchvision's own."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from mbdet.backbones import MobileNetV2
from mbdet.errors import InputError
from mbdet.interop import TorchvisionDetector
from mbdet.models import SSDLite
from mbdet.ops import AnchorConfig, FocalSSDLoss, Postprocess, SoftmaxSSDLoss
from mbdet.predictor import TorchPredictor
from mbdet.runtime.image import resize
from mbdet.testing import settle
from mbdet.types import DetectionTargets

SIZE = (64, 96)
Target = dict[str, Tensor]


def small_network() -> SSDLite:
    torch.manual_seed(0)
    anchors = AnchorConfig(reduce_lowest=False)
    backbone = MobileNetV2(0.35, scale_last=True)
    network = SSDLite(backbone, 3, SIZE, ("c3", "c4", "c5"), (32,), anchors, bn_momentum=0.1, class_bias_init=-2.0)
    for head in network.class_heads:
        torch.nn.init.normal_(head.pointwise.weight, std=0.3)  # scores far enough apart to be told apart
    return network


@pytest.fixture
def model() -> TorchvisionDetector:
    return TorchvisionDetector(settle(small_network()), FocalSSDLoss(), Postprocess(score_threshold=0.05))


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return smooth colours, which survive a resize."""
    coarse = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(seed))
    pixels = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]
    return (255 * pixels).to(torch.uint8).permute(1, 2, 0).numpy()


def as_tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image).permute(2, 0, 1) / 255


def target(boxes: Sequence[Sequence[float]], labels: Sequence[int], image_id: int = 0) -> Target:
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "image_id": torch.tensor([image_id]),
        "iscrowd": torch.zeros(len(labels), dtype=torch.int64),
    }


def test_detections_are_those_of_our_predictor(model: TorchvisionDetector) -> None:
    pictures = [picture(*SIZE, seed) for seed in range(3)]
    predictor = TorchPredictor(model.network, ("a", "b", "c"), model.postprocess, "cpu")
    with torch.inference_mode():
        found = model.eval()([as_tensor(image) for image in pictures])
    for detections, image in zip(found, pictures, strict=True):
        expected = predictor(image, score_threshold=0.0)
        assert list(detections) == ["boxes", "scores", "labels"]
        assert detections["labels"].dtype == torch.int64
        assert len(expected.scores) > 10
        np.testing.assert_array_equal(detections["labels"].numpy(), expected.labels + 1)
        np.testing.assert_allclose(detections["scores"].numpy(), expected.scores, atol=1e-4)
        np.testing.assert_allclose(detections["boxes"].numpy(), expected.boxes, atol=1e-2)


@pytest.mark.parametrize("size", [(100, 210), (33, 40), (640, 50)])
def test_images_of_other_sizes_are_resized_as_everywhere_and_their_boxes_back(
    model: TorchvisionDetector, size: tuple[int, int]
) -> None:
    image, seen = picture(*size), []
    model.network.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        (found,) = model.eval()([as_tensor(image)])
        (expected,) = model([seen[0][0] / 255])
    # Pillow rounds to whole numbers, after each of two passes.
    assert (seen[0][0].permute(1, 2, 0) - torch.from_numpy(resize(image, SIZE))).abs().max() < 1.01
    assert len(found["boxes"]) > 10
    scale = torch.tensor([size[1] / SIZE[1], size[0] / SIZE[0]] * 2)
    torch.testing.assert_close(found["boxes"], expected["boxes"] * scale, rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(found["scores"], expected["scores"], rtol=1e-3, atol=1e-4)


def test_losses_are_those_of_our_loss_on_targets_padded_by_hand(model: TorchvisionDetector) -> None:
    images = [as_tensor(picture(64, 96)), as_tensor(picture(128, 48, 1)), as_tensor(picture(64, 96, 2))]
    targets = [target([[10, 20, 40, 50], [5, 5, 30, 60]], [3, 1]), target([[12, 8, 24, 100]], [2]), target([], [])]
    model.train()
    found = model(images, targets)

    padded = DetectionTargets(
        boxes=torch.tensor(
            [[[10, 20, 40, 50], [5, 5, 30, 60]], [[24, 4, 48, 50], [0, 0, 0, 0]], [[0] * 4] * 2]
        ).float(),
        labels=torch.tensor([[2, 0], [1, 0], [0, 0]]),
        valid=torch.tensor([[True, True], [True, False], [False, False]]),
    )
    stretched = torch.nn.functional.interpolate(images[1][None], SIZE, mode="bilinear", antialias=True)[0]
    batch = 255 * torch.stack([images[0], stretched, images[2]])
    expected = model.loss(model.network(batch), model.network.anchors, padded)
    assert list(found) == ["classification", "bbox_regression"]
    assert expected.localization > 0
    torch.testing.assert_close(found["classification"], expected.classification)
    torch.testing.assert_close(found["bbox_regression"], expected.localization)


def test_a_batch_without_any_object_trains(model: TorchvisionDetector) -> None:
    losses = model.train()([as_tensor(picture(64, 96, seed)) for seed in (0, 1)], [target([], [])] * 2)
    sum(losses.values()).backward()
    assert losses["bbox_regression"] == 0
    assert losses["classification"].isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.slow
def test_learns_two_images_in_a_loop_like_torchvision_s(model: TorchvisionDetector) -> None:
    """The calls of references/detection/engine.py: train_one_epoch, then evaluate."""
    pictures = [np.full((64, 96, 3), 60, np.uint8), np.full((128, 192, 3), 60, np.uint8)]
    pictures[0][16:48, 8:40] = (230, 30, 30)
    pictures[1][40:120, 80:160] = (30, 30, 230)
    targets = [target([[8, 16, 40, 48]], [1], image_id=7), target([[80, 40, 160, 120]], [3], image_id=9)]
    images = [as_tensor(image) for image in pictures]
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=3e-3)

    model.train()
    history = []
    for _ in range(60):
        losses_by_name = model(images, targets)
        losses = sum(loss for loss in losses_by_name.values())
        assert math.isfinite(losses.item())
        optimizer.zero_grad()
        losses.backward()
        optimizer.step()
        history.append(losses.item())
    assert history[-1] < 0.2 * history[0]
    settle_on(model, images, targets)

    model.eval()
    with torch.inference_mode():
        outputs = [{name: value.to("cpu") for name, value in output.items()} for output in model(images)]
    results = {target["image_id"].item(): output for target, output in zip(targets, outputs, strict=True)}
    for expected in targets:
        found = results[expected["image_id"].item()]
        assert found["labels"][0] == expected["labels"][0]
        assert found["scores"][0] > 0.5
        torch.testing.assert_close(found["boxes"][0], expected["boxes"][0], atol=12, rtol=0)


def settle_on(model: TorchvisionDetector, images: list[Tensor], targets: list[Target]) -> None:
    """Let the running statistics of the batch norms, too slow for so few steps, catch up."""
    with torch.no_grad():
        for _ in range(30):
            model(images, targets)


@pytest.mark.parametrize(
    ("images", "targets", "message"),
    [
        ([torch.zeros(3, 8, 8)] * 2, None, "2 images and 0 targets"),
        ([torch.zeros(3, 8, 8)] * 2, [target([], [])], "2 images and 1 targets"),
        (
            [torch.zeros(3, 8, 8, dtype=torch.uint8)],
            [target([], [])],
            r"images\[0\] is \(3, 8, 8\) of torch.uint8; give",
        ),
        ([torch.zeros(8, 8)], [target([], [])], r"images\[0\] is \(8, 8\)"),
        (
            [torch.zeros(3, 8, 8)],
            [target([[1, 2, 1, 5]], [1])],
            r"targets\[0\]: box \[1.0, 2.0, 1.0, 5.0\] has no posi",
        ),
        *[
            (
                [torch.zeros(3, 8, 8)] * 2,
                [target([[1, 2, 3, 5]], [1]), target([[1, 2, 3, 5], box], [1, 2])],
                r"targets\[1\]: box \[.*(nan|inf).*\] .*not finite",
            )
            for box in ([math.nan, 2, 3, 5], [1, 2, 3, math.nan], [1, 2, math.inf, 5], [-math.inf, 2, 3, 5])
        ],
        (
            [torch.zeros(3, 8, 8)] * 3,
            [target([[1, 2, 3, 5]] * 2, [1, 2]), target([], []), target([[1, 2, 3, 5]] * 2, [3, 7])],
            r"targets\[2\]: label 7 is outside 1\.\.3",
        ),
        ([torch.zeros(3, 8, 8)], [target([[1, 2, 3, 5]], [0])], r"targets\[0\]: label 0 is outside 1\.\.3"),
        ([torch.zeros(3, 8, 8)], [target([[1, 2, 3, 5]], [4])], r"targets\[0\]: label 4 is outside 1\.\.3"),
        ([torch.zeros(3, 8, 8)], [target([[1, 2, 3, 5]], [1, 2])], r"targets\[0\]: boxes are \(1, 4\) for 2 labels"),
    ],
)
def test_what_is_not_in_the_contract_is_named(
    model: TorchvisionDetector, images: list[Tensor], targets: list[Target] | None, message: str
) -> None:
    model.train()
    model.network.eval()  # a single image is enough to get there
    with pytest.raises(InputError, match=message):
        model(images, targets)


def test_scores_must_be_decoded_as_they_are_trained() -> None:
    with pytest.raises(InputError, match=r"SoftmaxSSDLoss trains softmax scores.*set postprocess.scores: softmax"):
        TorchvisionDetector(small_network(), SoftmaxSSDLoss())
    TorchvisionDetector(small_network(), SoftmaxSSDLoss(), Postprocess("softmax"))
