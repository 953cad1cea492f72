from collections.abc import Callable
from functools import partial

import pytest
import torch

from mbdet.backbones import Backbone, MobileNetV1, MobileNetV2, MobileNetV3
from mbdet.cost import analyse
from mbdet.models import LRASPP, SSDFPN, DeepLabV3, Detector, MultiTask, Segmenter, SSDLite
from mbdet.testing import check_multitask, noise

SIZE = (64, 96)
Build = tuple[Callable[[], Backbone], Callable[[Backbone], Detector], Callable[[Backbone], Segmenter]]

SSDLITE = partial(SSDLite, num_classes=3, input_size=SIZE, taps=("c3", "c4", "c5"), extra_channels=(32, 16))
LR_ASPP = partial(LRASPP, num_classes=5, input_size=SIZE, channels=16)
PAIRS: dict[str, Build] = {
    "ssdlite, lraspp on v2": (partial(MobileNetV2, 0.35, scale_last=True), SSDLITE, LR_ASPP),
    "ssdlite, lraspp on v3-small": (partial(MobileNetV3, "small", width_mult=0.35), SSDLITE, LR_ASPP),
    "fpn, deeplabv3 with aux on v1": (
        partial(MobileNetV1, 0.25),
        partial(SSDFPN, num_classes=3, input_size=SIZE, neck_channels=16, tower_channels=16, tower_layers=1),
        partial(DeepLabV3, num_classes=5, input_size=SIZE, channels=16, aux="c3_first"),
    ),
}
each_pair = pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@each_pair
def test_keeps_the_contract(pair: Build) -> None:
    backbone, *heads = pair
    check_multitask(lambda: MultiTask(backbone(), *heads))


@each_pair
def test_equals_both_networks_alone_with_the_same_weights(pair: Build) -> None:
    backbone, make_detector, make_segmenter = pair
    network = MultiTask(backbone(), make_detector, make_segmenter)
    images, state = noise(4, *SIZE), network.state_dict()
    network.train()(images)  # statistics of the batch norms that are not those of the start
    alone = {"detector": make_detector(backbone()), "segmenter": make_segmenter(backbone())}
    for name, single in alone.items():
        # Their names but for the prefix, and all of them: loading is strict.
        names = [key for key in state if key.startswith(("backbone.", f"{name}."))]
        single.load_state_dict({key.removeprefix(f"{name}."): state[key] for key in names})
    network.eval()
    with torch.no_grad():
        output = network(images)
        detection, segmentation = (single.eval()(images) for single in alone.values())
    for together, expected in zip((*output.detection, *output.segmentation), (*detection, *segmentation), strict=True):
        assert (together is None) == (expected is None)
        assert together is None or torch.equal(together, expected)
    assert output.detection.class_logits.std() > 0
    assert output.segmentation.logits.std() > 0
    assert (network.num_classes, network.segmenter.num_classes, network.input_size) == (3, 5, SIZE)


@each_pair
def test_the_backbone_is_paid_for_once(pair: Build) -> None:
    backbone, make_detector, make_segmenter = pair
    with torch.device("meta"):
        together = analyse(MultiTask(backbone(), make_detector, make_segmenter), SIZE)
        detector, segmenter = (analyse(make(backbone()), SIZE) for make in (make_detector, make_segmenter))
        shared = analyse(backbone(), SIZE)
    for figure in ("parameters", "madds", "weights"):
        both = getattr(detector, figure) + getattr(segmenter, figure)
        assert getattr(together, figure) == both - getattr(shared, figure), figure
    assert together.file.int8 < detector.file.int8 + segmenter.file.int8


def test_heads_that_do_not_belong_together_are_refused() -> None:
    with torch.device("meta"):
        other = MobileNetV2(0.35)
        with pytest.raises(ValueError, match=r"input_size is \(64, 96\), the segmenter's \(96, 64\); give both"):
            MultiTask(MobileNetV2(0.35), SSDLITE, partial(LRASPP, num_classes=5, input_size=(96, 64)))
        with pytest.raises(ValueError, match="the segmenter was made on another backbone"):
            MultiTask(MobileNetV2(0.35), SSDLITE, lambda _: LR_ASPP(other))
        network = MultiTask(other, SSDLITE, LR_ASPP)
        with pytest.raises(ValueError, match=r"images are \(96, 64\), the detector was built for \(64, 96\)"):
            network(torch.zeros(1, 3, 96, 64))
