"""The contracts of backbones, detectors, classifiers, segmenters and their pairs as checks, for a class of your own.

    from mbdet.testing import check_backbone

    def test_my_backbone():
        check_backbone(MyBackbone)  # or lambda: MyBackbone(width=0.5), which tests faster

Every check raises AssertionError, with one line that says which promise is not kept.
"""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mbdet.backbones.base import Backbone, FeatureSpec
from mbdet.errors import first_line
from mbdet.models.classifier import Classifier
from mbdet.models.detector import Detector
from mbdet.models.multitask import MultiTask
from mbdet.models.network import Network
from mbdet.models.segmenter import Segmenter
from mbdet.types import DetectorOutput, MultiTaskOutput, SegmenterOutput

Checked = Backbone | Network
IMAGE_SIZE = (64, 96)  # for what takes any
ODD_SIZES = tuple(itertools.product((64, 97, 225), (33, 130)))


def check_backbone(build: Callable[[], Backbone]) -> None:
    """Check all that `Backbone` promises.

    Args:
        build: Returns a new backbone at every call; its class, if that takes no arguments.

    Raises:
        AssertionError: If a promise is not kept.
    """
    check_specs(build())
    check_network(build)


def check_detector(build: Callable[[], Detector]) -> None:
    """Check all that `Detector` promises; its backbone has a check of its own.

    Args:
        build: Returns a new detector at every call.

    Raises:
        AssertionError: If a promise is not kept.
    """
    check_predictions(build())
    check_network(build)


def check_classifier(build: Callable[[], Classifier]) -> None:
    """Check all that `Classifier` promises; its backbone has a check of its own.

    Args:
        build: Returns a new classifier at every call.

    Raises:
        AssertionError: If a promise is not kept.
    """
    check_class_logits(build())
    check_network(build)


def check_segmenter(build: Callable[[], Segmenter]) -> None:
    """Check all that `Segmenter` promises; its backbone has a check of its own.

    Args:
        build: Returns a new segmenter at every call.

    Raises:
        AssertionError: If a promise is not kept.
    """
    check_maps(build())
    check_network(build)


def check_multitask(build: Callable[[], MultiTask]) -> None:
    """Check that two heads on one backbone keep their promises together; their backbone has a check of its own.

    Args:
        build: Returns a new network at every call.

    Raises:
        AssertionError: If a promise is not kept.
    """
    check_heads(build())
    check_network(build)


def check_network(build: Callable[[], Checked]) -> None:
    """Check what all promise: images of both types, independent images, gradients, complete weights, export."""
    check_image_types(build())
    check_independent_images(build())
    check_gradients(build())
    check_state_dict(build)
    check_export(build())


def check_specs(backbone: Backbone) -> None:
    """Check that `specs` are what `forward` returns at even and odd sizes, finest first; also on the meta device."""
    strides = [spec.stride for spec in backbone.specs.values()]
    require(bool(strides) and strides == sorted(strides), f"specs must list maps finest first, got strides {strides}")
    plain = [name for name, spec in backbone.specs.items() if not isinstance(spec, FeatureSpec)]
    require(not plain, f"specs of {plain} are no FeatureSpec")
    backbone.eval()
    for height, width in ODD_SIZES:
        images = torch.zeros(2, 3, height, width, device=next(backbone.parameters()).device)
        found = {name: tuple(feature.shape) for name, feature in backbone(images).items()}
        expected = {
            name: (2, channels, -(-height // stride), -(-width // stride))
            for name, (channels, stride) in backbone.specs.items()
        }
        require(found == expected, f"of images {(height, width)} forward returns {found}, specs promise {expected}")


def check_predictions(detector: Detector) -> None:
    """Check that `forward` returns one raw prediction per anchor, in training and in evaluation alike."""
    anchors = detector.anchors
    shape = tuple(anchors.shape)
    require(len(shape) == 2 and shape[1] == 4 and anchors.dtype == torch.float32, "anchors must be (A, 4) float32")
    require(bool((anchors[:, 2:] > anchors[:, :2]).all()), "anchors must be xyxy with x1 < x2 and y1 < y2")
    require(
        "anchors" not in detector.state_dict(), "anchors must not be in the state dict: register_buffer(..., False)"
    )
    expected = ((4, shape[0], 4), (4, shape[0], 1 + detector.num_classes))
    for mode in (True, False):
        output = detector.train(mode)(random_images(detector))
        require(type(output) is DetectorOutput, f"forward must return a DetectorOutput, got {type(output).__name__}")
        found = tuple(tuple(part.shape) for part in output)
        require(found == expected, f"predictions are {found}, {shape[0]} anchors and the classes make it {expected}")


def check_class_logits(classifier: Classifier) -> None:
    """Check that `forward` returns one logit per class of images of any size, in training and in evaluation alike."""
    for mode, (height, width) in itertools.product((True, False), ODD_SIZES):
        output = classifier.train(mode)(noise(2, height, width))
        require(isinstance(output, Tensor), f"forward must return a Tensor, got {type(output).__name__}")
        found, expected = tuple(output.shape), (2, classifier.num_classes)
        require(
            found == expected, f"of images {(height, width)} the logits are {found}, the classes make it {expected}"
        )


def check_maps(segmenter: Segmenter) -> None:
    """Check that `forward` returns logits as large as images of any size, in training and in evaluation alike."""
    given = []
    for mode, (height, width) in itertools.product((True, False), ODD_SIZES):
        output = segmenter.train(mode)(noise(2, height, width))
        require(type(output) is SegmenterOutput, f"forward must return a SegmenterOutput, got {type(output).__name__}")
        given.append(list(parts_of(output)))
        expected = (2, segmenter.num_classes, height, width)
        for name, part in parts_of(output).items():
            require(
                tuple(part.shape) == expected,
                f"of images {(height, width)} {name} are {tuple(part.shape)}, it must be {expected}",
            )
    require(given[0] == given[-1], f"forward returns {given[0]} in training and {given[-1]} in evaluation")


def check_heads(network: MultiTask) -> None:
    """Check that `forward` returns what both heads make of one pass of the backbone, which the weights hold once."""
    parts = {name.partition(".")[0] for name in network.state_dict()}
    require(parts == {"backbone", "detector", "segmenter"}, f"the state dict has {sorted(parts)}")
    twice = [name for name in network.state_dict() if ".backbone." in name]
    require(not twice, f"the state dict holds the backbone again: {twice[:1]}")
    passes: list[nn.Module] = []
    network.backbone.register_forward_hook(lambda module, _inputs, _output: passes.append(module))
    for mode in (True, False):
        passes.clear()
        output = network.train(mode)(random_images(network))
        require(type(output) is MultiTaskOutput, f"forward must return a MultiTaskOutput, got {type(output).__name__}")
        require(len(passes) == 1, f"the backbone ran {len(passes)} times in one forward")
    images = random_images(settle(network))
    features = network.backbone(images)
    alone = MultiTaskOutput(
        network.detector.from_features(features), network.segmenter.from_features(features, images.shape[2:])
    )
    for name, (together, expected) in pairs(outputs(network, images), parts_of(alone)):
        require(close(together, expected), f"{name} is not what its head returns of the backbone's maps")


def check_image_types(network: Checked) -> None:
    """Check that uint8 images and the same numbers in floating point give the same."""
    images = random_images(settle(network))
    for name, (whole, floating) in pairs(outputs(network, images), outputs(network, images.float())):
        require(torch.equal(whole, floating), f"{name} differs between uint8 images and the same as float")


def check_independent_images(network: Checked) -> None:
    """Check that in evaluation an image does not depend on the others in its batch."""
    images = random_images(settle(network))
    for name, (batch, alone) in pairs(outputs(network, images), outputs(network, images[1:2])):
        require(close(alone, batch[1:2]), f"{name} of an image depends on its batch in evaluation")


def check_gradients(network: Checked) -> None:
    """Check that the gradient of all outputs reaches every parameter, and is finite."""
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():  # a scale that starts at 0, as in many residual branches, lets none through
                nn.init.normal_(parameter, std=0.1)
    network.train()
    parts = outputs(network, random_images(network), grad=True).values()
    torch.stack([part.square().mean() for part in parts]).sum().backward()  # type: ignore[no-untyped-call]  # torch's
    wanted = {name: parameter.grad for name, parameter in network.named_parameters() if parameter.requires_grad}
    unused = [name for name, grad in wanted.items() if grad is None or not grad.any()]
    require(not unused, f"no gradient reaches {unused}; a parameter that nothing uses breaks distributed training")
    infinite = [name for name, grad in wanted.items() if grad is not None and not grad.isfinite().all()]
    require(not infinite, f"the gradient is not finite at {infinite}")


def check_state_dict(build: Callable[[], Checked]) -> None:
    """Check that the state dict holds everything that `forward` depends on, such as mean and standard deviation."""
    first, second = settle(build()), build().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in itertools.chain(first.parameters(), first.buffers()):
            if value.is_floating_point():
                value.mul_(1 + 0.1 * torch.rand(value.shape, generator=generator))
    images = random_images(first)
    second.load_state_dict(first.state_dict())
    for name, (saved, loaded) in pairs(outputs(first, images), outputs(second, images)):
        require(torch.equal(saved, loaded), f"{name} differs after a state dict round trip: something is not in it")


def check_export(network: Checked) -> None:
    """Check that `torch.export` takes the network with a free batch size and computes the same."""
    images = random_images(settle(network))
    batch = torch.export.Dim("batch", min=1, max=64)
    try:
        program = torch.export.export(network, (images[:2],), dynamic_shapes=({0: batch},)).module()
    except Exception as error:  # of many kinds; the first line says what, the cause shows where
        raise AssertionError(f"torch.export refuses a free batch size: {first_line(error)}") from error
    for size in (1, 3):
        for name, (own, exported) in pairs(outputs(network, images[:size]), outputs(program, images[:size])):
            require(close(exported, own), f"{name} differs after torch.export, with a batch of {size}")


def random_images(network: Checked) -> Tensor:
    """Return 4 images of noise, the same at every call, of a size that the network takes."""
    size = network.input_size if isinstance(network, Detector | MultiTask) else IMAGE_SIZE
    return noise(4, *size)


def noise(number: int, height: int, width: int) -> Tensor:
    """Return (number, 3, height, width) random uint8 images, the same at every call."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (number, 3, height, width), generator=generator, dtype=torch.uint8)


def settle(network: Checked) -> Checked:
    """Give the batch norms the statistics of noise, which keep the activations alive, and switch to evaluation.

    Args:
        network: Changed in place.

    Raises:
        AssertionError: If an output is the same for all images even so: comparing it would tell nothing.
    """
    norms = [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]
    momenta = [layer.momentum for layer in norms]
    images = random_images(network)
    for layer in norms:
        layer.momentum = 1.0
    with torch.no_grad():
        network.train()(images)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
    for name, part in outputs(network.eval(), images).items():
        alive = bool(part.isfinite().all()) and not torch.equal(part[0], part[1])
        require(alive, f"{name} is not finite, or the same for any image")
    return network


def outputs(network: nn.Module, images: Tensor, grad: bool = False) -> dict[str, Tensor]:
    """Return what `forward` returns, by name."""
    with torch.set_grad_enabled(grad):
        return parts_of(network(images))


def parts_of(
    output: Tensor | DetectorOutput | SegmenterOutput | MultiTaskOutput | dict[str, Tensor],
) -> dict[str, Tensor]:
    """Return the tensors of an output by name."""
    if isinstance(output, Tensor):
        return {"logits": output}
    if isinstance(output, MultiTaskOutput):
        return parts_of(output.detection) | parts_of(output.segmentation)
    named = output._asdict() if isinstance(output, DetectorOutput | SegmenterOutput) else dict(output)
    return {name: part for name, part in named.items() if part is not None}


def pairs(first: dict[str, Tensor], second: dict[str, Tensor]) -> list[tuple[str, tuple[Tensor, Tensor]]]:
    """Return both values of every name."""
    require(list(first) == list(second), f"forward returns {list(first)} once and {list(second)} another time")
    return [(name, (first[name], second[name])) for name in first]


def close(found: Tensor, expected: Tensor) -> bool:
    """Whether two tensors are the same but for rounding, measured by how much the expected one varies."""
    return found.shape == expected.shape and bool((found - expected).abs().max() <= 1e-3 * expected.std())


def require(kept: bool, message: str) -> None:
    """Raise AssertionError unless a promise is kept, also under `python -O`."""
    if not kept:
        raise AssertionError(message)
