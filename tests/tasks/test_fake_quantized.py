"""The graph that rounds: without rounding it is the network, with it close, and always on the network's tensors."""

import importlib
import sys
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mbdet.backbones.base import TF_MEAN, TF_STD, Backbone, FeatureSpec, Normalize
from mbdet.backbones.blocks import ConvBNAct, ConvConfig, SqueezeExcite
from mbdet.errors import InputError
from mbdet.models import SSDFPN, Classifier
from mbdet.tasks.fake_quantized import MIN_SCALE, FakeQuantized
from mbdet.testing import settle

pytest.importorskip("executorch")
from torchao.quantization.pt2e import FakeQuantize, disable_fake_quant

BATCH_NORM = ConvConfig(padding="same", bn_eps=0.5, bn_momentum=0.03)  # an eps that shows


class SmallBackbone(Backbone):
    """One of each layer that the MobileNets have."""

    def __init__(self) -> None:
        super().__init__()
        self.normalize = Normalize(TF_MEAN, TF_STD)
        self.stem = ConvBNAct(3, 8, BATCH_NORM, kernel_size=3, stride=2)
        self.depthwise = ConvBNAct(8, 8, BATCH_NORM, kernel_size=3, groups=8, act="hard_swish")
        self.se = SqueezeExcite(8, 4)
        self.project = ConvBNAct(8, 8, BATCH_NORM, act="linear")
        self.specs = {"c5": FeatureSpec(8, 2)}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """See `Backbone.forward`."""
        x = self.stem(self.normalize(images))
        return {"c5": x + self.project(self.se(self.depthwise(x)))}


def network_and_images(dropout: float = 0.0) -> tuple[Classifier, Tensor]:
    """Return a network whose batch norms are not as at the start, one of their weights 0."""
    torch.manual_seed(0)
    network = Classifier(SmallBackbone(), 5, (16, 16), dropout=dropout)
    nn.init.normal_(network.logits.weight)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.5, 0.5)
            nn.init.uniform_(layer.running_var, 0.05, 2)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, 0.1, 0.5)
            layer.weight.data[0] = 0
    return network, torch.randint(256, (6, 3, 16, 16), dtype=torch.uint8)


def error(found: Tensor, expected: Tensor) -> float:
    return float(((found - expected).std() / expected.std()).detach())


def test_the_graph_is_the_network_but_for_the_rounding() -> None:
    network, images = network_and_images()
    plain = deepcopy(network).eval()
    places = {name: value.data_ptr() for name, value in network.state_dict().items()}
    graphs = FakeQuantized(network)
    for _ in range(2):
        graphs(images, training=True)
    graphs.observing = False
    rounded = graphs(images, training=False)
    torch.testing.assert_close(graphs(images, training=True), rounded)
    assert 1e-3 < error(rounded, plain(images)) < 0.1

    graphs._prepared.apply(disable_fake_quant)
    found, expected = graphs(images, training=True), plain(images)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
    # The tensors are those that were there before, and none of them has moved.
    for name, value in network.state_dict().items():
        assert value.data_ptr() == places[name]
        torch.testing.assert_close(value, plain.state_dict()[name], atol=2 * MIN_SCALE, rtol=1e-4)
    found.square().sum().backward()
    expected.square().sum().backward()
    for parameter, other in zip(network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad, atol=0.01, rtol=0.01)


def test_levels_that_share_weights_are_all_rounded() -> None:
    """A pyramid's towers and heads run once for each level, with batch norms of their own."""
    torch.manual_seed(0)
    sizes = {"neck_channels": 8, "tower_channels": 8, "tower_layers": 1, "extra_levels": 1}
    network = SSDFPN(SmallBackbone(), 3, (40, 40), ("c5",), **sizes)
    settle(network)
    for head in (network.box_head, network.class_head):
        nn.init.normal_(head.last.weight)
    images = torch.randint(256, (6, 3, 40, 40), dtype=torch.uint8)
    expected = deepcopy(network).eval()(images)
    graphs = FakeQuantized(network)
    heads = [
        node
        for node in graphs._prepared.graph.nodes
        if "conv2d" in str(node.target) and "_head" in str([*node.meta.get("nn_module_stack", {}).values()][-1:])
    ]
    assert len(heads) == 2 * 2 * 2  # levels, heads, and depthwise and pointwise
    for node in heads:  # by itself the quantiser would take the first level alone
        assert all(isinstance(graphs._prepared.get_submodule(of.target), FakeQuantize) for of in node.args[:2])
    for _ in range(2):
        graphs(images, training=True)
    graphs.observing = False
    rounded = graphs(images, training=False)
    levels = [slice(0, 20 * 20 * 6), slice(20 * 20 * 6, None)]
    for found, plain in zip(tree_leaves(rounded), tree_leaves(expected), strict=True):
        assert all(1e-3 < error(found[:, level], plain[:, level]) < 0.2 for level in levels)
    graphs._prepared.apply(disable_fake_quant)
    for found, plain in zip(tree_leaves(graphs(images, training=True)), tree_leaves(expected), strict=True):
        torch.testing.assert_close(found, plain, atol=1e-3, rtol=1e-3)


def test_weights_are_rounded_by_the_range_that_they_have() -> None:
    network, images = network_and_images()
    graphs = FakeQuantized(network)
    graphs(images, training=True)
    graphs.observing = False
    before = {name: value.clone() for name, value in graphs.ranges().items()}
    with torch.no_grad():
        network.backbone.stem.conv.weight.mul_(3)
    graphs(images, training=False)
    grown = [
        float((value / before[name]).median())
        for name, value in graphs.ranges().items()
        if name.endswith("scale") and not torch.equal(value, before[name])
    ]
    assert grown == [pytest.approx(3, rel=1e-4)]


def test_what_learns_and_what_stays() -> None:
    network, images = network_and_images(dropout=0.5)
    graphs = FakeQuantized(network)
    assert network.training

    def changed(images: Tensor, training: bool) -> set[str]:
        """Return what a pass has changed of the network, and whether it has changed the ranges."""
        before, ranges = deepcopy(network.state_dict()), deepcopy(graphs.ranges())
        assert graphs(images, training).isfinite().all()
        names = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
        moved = any("min_val" in name and not torch.equal(graphs.ranges()[name], ranges[name]) for name in ranges)
        return names | ({"ranges"} if moved else set())

    assert changed(images, training=True) == {"ranges"}
    assert changed(images[:1] // 2, training=True) == {"ranges"}
    graphs.observing = False
    assert changed(images // 3, training=True) == set()
    graphs.observing = True
    assert changed(images // 5, training=False) == set()
    # Dropout acts in training alone.
    graphs.observing = False
    assert not torch.equal(graphs(images, training=True), graphs(images, training=True))
    assert torch.equal(graphs(images, training=False), graphs(images, training=False))

    # Ranges travel, those of another graph do not.
    ranges, rounded = {name: value.clone() for name, value in graphs.ranges().items()}, graphs(images, training=False)
    graphs.observing = True
    graphs(images.fliplr(), training=True)
    assert not torch.equal(graphs(images, training=False), rounded)
    graphs.load_ranges(ranges)
    assert torch.equal(graphs(images, training=False), rounded)
    with pytest.raises(InputError, match="ranges are of another network"):
        graphs.load_ranges(dict(list(ranges.items())[1:]))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao.quantization.pt2e", None)
    monkeypatch.delitem(sys.modules, "mbdet.tasks.fake_quantized")
    with pytest.raises(InputError, match=r"needs torchao.* pip install 'mbdet\[executorch\]'"):
        importlib.import_module("mbdet.tasks.fake_quantized")
