"""The contract checks on classes that a user might write: a good one passes, each broken promise is named."""

from collections.abc import Callable, Sequence
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mbdet.backbones import Backbone, FeatureSpec
from mbdet.backbones.base import Normalize
from mbdet.models import Classifier, Detector, MultiTask, Segmenter
from mbdet.models.segmenter import resize
from mbdet.ops import AnchorConfig
from mbdet.ops.anchors import ssd_anchors
from mbdet.testing import check_backbone, check_classifier, check_detector, check_multitask, check_segmenter
from mbdet.types import DetectorOutput, MultiTaskOutput, SegmenterOutput


class Tiny(Backbone):
    """A third party's backbone: two maps, and layers of other names than ours."""

    def __init__(self) -> None:
        super().__init__()
        self.specs = {"c3": FeatureSpec(8, 8), "c4": FeatureSpec(12, 16)}
        self.normalize = Normalize((100.0, 110.0, 120.0), (50.0, 60.0, 70.0))
        self.patches = nn.Conv2d(3, 8, 9, stride=8, padding=4)
        self.norm = nn.BatchNorm2d(8)
        self.down = nn.Conv2d(8, 12, 3, stride=2, padding=1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x = self.norm(self.patches(self.normalize(images)))
        return {"c3": x, "c4": self.down(x.relu())}


class TinyDetector(Detector):
    """A third party's detector: one map, two anchors per cell."""

    def __init__(self, backbone: Backbone | None = None) -> None:
        super().__init__()
        self.backbone, self.num_classes, self.input_size = backbone or Tiny(), 3, (48, 64)
        self.head = nn.Conv2d(12, 2 * (4 + 1 + 3), 1)
        config = AnchorConfig(aspect_ratios=(), reduce_lowest=False)
        self.register_buffer("anchors", ssd_anchors([(3, 4)], self.input_size, config), persistent=False)

    def from_features(self, features: dict[str, Tensor]) -> DetectorOutput:
        out = self.head(features["c4"]).permute(0, 2, 3, 1)
        out = out.reshape(out.shape[0], -1, 8)
        return DetectorOutput(out[..., :4], out[..., 4:])


def test_third_parties_classes_pass() -> None:
    check_backbone(Tiny)
    check_detector(TinyDetector)


def wrong_channels(network: Tiny) -> None:
    network.specs["c4"] = FeatureSpec(16, 16)


def wrong_order(network: Tiny) -> None:
    network.specs = dict(reversed(network.specs.items()))


def rounds_down(network: Tiny) -> None:
    network.patches.padding = (0, 0)


def unused_parameter(network: Tiny) -> None:
    network.other = nn.Linear(2, 2)


def mean_outside_the_state_dict(network: Tiny) -> None:
    network.normalize.register_buffer("mean", torch.rand(1, 3, 1, 1), persistent=False)


def images_by_type(network: Tiny) -> None:
    network.register_forward_pre_hook(
        lambda _m, inputs: (inputs[0].float() * (255 if inputs[0].is_floating_point() else 1),)
    )


def batch_statistics(network: Tiny) -> None:
    network.norm.track_running_stats = False
    network.norm.running_mean = network.norm.running_var = None


def dead(network: Tiny) -> None:
    nn.init.zeros_(network.down.weight)


@pytest.mark.parametrize(
    ("flaw", "message"),
    [
        (wrong_channels, r"of images \(64, 33\) forward returns .* specs promise"),
        (wrong_order, r"finest first, got strides \[16, 8\]"),
        (rounds_down, "specs promise"),
        (unused_parameter, r"no gradient reaches \['other.weight', 'other.bias'\]"),
        (mean_outside_the_state_dict, "c3 differs after a state dict round trip"),
        (images_by_type, "c3 differs between uint8 images and the same as float"),
        (batch_statistics, "c3 of an image depends on its batch"),
        (dead, "c4 is not finite, or the same for any image"),
    ],
)
def test_a_broken_promise_is_named(flaw: Callable[[Tiny], None], message: str) -> None:
    def build() -> Tiny:
        network = Tiny()
        flaw(network)
        return network

    with pytest.raises(AssertionError, match=message):
        check_backbone(build)


class ChangesAfterExport(Tiny):
    """Computes something else where it is traced."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        factor = 2 if torch.compiler.is_compiling() else 1
        return {name: factor * feature for name, feature in super().forward(images).items()}


def test_an_export_that_computes_something_else_is_named() -> None:
    with pytest.raises(AssertionError, match=r"c3 differs after torch\.export"):
        check_backbone(ChangesAfterExport)


class OneBatchSize(Tiny):
    """Takes the batch size for a number that never changes."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = super().forward(images)
        return {name: feature.reshape(len(images), *feature.shape[1:]) for name, feature in features.items()}


def test_a_network_that_cannot_be_exported_is_named() -> None:
    with pytest.raises(AssertionError, match=r"torch\.export refuses a free batch size: Constraints violated"):
        check_backbone(OneBatchSize)


class DecodesInEvaluation(TinyDetector):
    def forward(self, images: Tensor) -> DetectorOutput:
        output = super().forward(images)
        return output if self.training else (output.box_deltas, output.class_logits.softmax(-1))


class OnePredictionTooMany(TinyDetector):
    def forward(self, images: Tensor) -> DetectorOutput:
        return DetectorOutput(*(F.pad(part, (0, 0, 0, 1)) for part in super().forward(images)))


class AnchorsInTheStateDict(TinyDetector):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("anchors", self.anchors)


@pytest.mark.parametrize(
    ("detector", "message"),
    [
        (DecodesInEvaluation, "must return a DetectorOutput, got tuple"),
        (OnePredictionTooMany, "predictions are .* 24 anchors"),
        (AnchorsInTheStateDict, "anchors must not be in the state dict"),
    ],
)
def test_a_broken_promise_of_a_detector_is_named(detector: type[TinyDetector], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_detector(detector)


class TinySegmenter(Segmenter):
    """A third party's segmenter, with an auxiliary head."""

    def __init__(self, backbone: Backbone | None = None) -> None:
        super().__init__()
        self.backbone, self.num_classes, self.input_size = backbone or Tiny(), 3, (48, 64)
        self.heads = nn.ModuleList(nn.Conv2d(channels, 3, 1) for channels in (12, 8))

    def from_features(self, features: dict[str, Tensor], size: Sequence[int]) -> SegmenterOutput:
        main, aux = self.heads
        return SegmenterOutput(*(resize(x, size, False) for x in (main(features["c4"]), aux(features["c3"]))))


def test_third_parties_classifiers_and_segmenters_pass() -> None:
    check_classifier(lambda: Classifier(Tiny(), 3, tap="c4"))
    check_segmenter(TinySegmenter)


class NamedLogits(Classifier):
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"logits": super().forward(images)}


class WithTheBackground(Classifier):
    def forward(self, images: Tensor) -> Tensor:
        return F.pad(super().forward(images), (1, 0))


class FloatsInParts(Classifier):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images * (255 if images.is_floating_point() else 1))


@pytest.mark.parametrize(
    ("classifier", "message"),
    [
        (NamedLogits, "must return a Tensor, got dict"),
        (WithTheBackground, r"of images \(64, 33\) the logits are \(2, 4\), the classes make it \(2, 3\)"),
        (FloatsInParts, "logits differs between uint8 images and the same as float"),
    ],
)
def test_a_broken_promise_of_a_classifier_is_named(classifier: type[Classifier], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_classifier(lambda: classifier(Tiny(), 3, tap="c4"))


class LogitsAlone(TinySegmenter):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).logits


class LogitsAtHalfTheSize(TinySegmenter):
    def forward(self, images: Tensor) -> SegmenterOutput:
        return SegmenterOutput(*(part[..., ::2, ::2] for part in super().forward(images)))


class AuxiliaryInTrainingOnly(TinySegmenter):
    def forward(self, images: Tensor) -> SegmenterOutput:
        logits, aux = super().forward(images)
        return SegmenterOutput(logits, aux if self.training else None)


class UnusedHead(TinySegmenter):
    def forward(self, images: Tensor) -> SegmenterOutput:
        return SegmenterOutput(super().forward(images).logits, None)


@pytest.mark.parametrize(
    ("segmenter", "message"),
    [
        (LogitsAlone, "must return a SegmenterOutput, got Tensor"),
        (LogitsAtHalfTheSize, r"of images \(64, 33\) logits are \(2, 3, 32, 17\), it must be \(2, 3, 64, 33\)"),
        (AuxiliaryInTrainingOnly, r"\['logits', 'aux_logits'\] in training and \['logits'\] in evaluation"),
        (UnusedHead, r"no gradient reaches \['heads.1.weight', 'heads.1.bias'\]"),
    ],
)
def test_a_broken_promise_of_a_segmenter_is_named(segmenter: type[TinySegmenter], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_segmenter(segmenter)


def test_third_parties_heads_pass_together() -> None:
    check_multitask(lambda: MultiTask(Tiny(), TinyDetector, TinySegmenter))


class BothInATuple(MultiTask):
    def forward(self, images: Tensor) -> tuple[DetectorOutput, SegmenterOutput]:
        return tuple(super().forward(images))


class TwoPasses(MultiTask):
    def forward(self, images: Tensor) -> MultiTaskOutput:
        return MultiTaskOutput(super().forward(images).detection, super().forward(images).segmentation)


class BackboneTwice(MultiTask):
    def __init__(self, backbone: Backbone, *heads: Callable[[Backbone], nn.Module]) -> None:
        super().__init__(backbone, *heads)
        self.detector.backbone = backbone


class OtherMapsForOne(MultiTask):
    def forward(self, images: Tensor) -> MultiTaskOutput:
        detection, segmentation = super().forward(images)
        return MultiTaskOutput(detection, SegmenterOutput(*(part.flip(3) for part in segmentation)))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (BothInATuple, "must return a MultiTaskOutput, got tuple"),
        (TwoPasses, "the backbone ran 2 times"),
        (BackboneTwice, "the state dict holds the backbone again: .'detector.backbone."),
        (OtherMapsForOne, "logits is not what its head returns of the backbone's maps"),
    ],
)
def test_a_broken_promise_of_two_heads_is_named(network: type[MultiTask], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_multitask(partial(network, Tiny(), TinyDetector, TinySegmenter))
