"""Counts by hand."""

import torch
from torch import nn

from mbdet.cost import count_madds, count_parameters


def small_network() -> nn.Sequential:
    """Return a network with one layer of each kind."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
        nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )


def test_parameters_by_hand() -> None:
    without = (3 * 8 * 9 + 8) + 8 * 9 + (8 * 5 + 5)
    assert count_parameters(small_network()) == without + 16
    assert count_parameters(small_network(), batch_norm=False) == without


def test_madds_by_hand() -> None:
    """Only convolutions and fully connected layers count, biases not; the maps are 5 x 6 cells."""
    expected = 5 * 6 * (3 * 8 * 9 + 8 * 9) + 8 * 5
    assert count_madds(small_network(), torch.zeros(1, 3, 10, 12)) == expected
    assert count_madds(small_network(), torch.zeros(4, 3, 10, 12)) == 4 * expected
    assert count_madds(small_network().to("meta"), torch.zeros(1, 3, 10, 12, device="meta")) == expected


def test_counting_leaves_the_network_as_it_is() -> None:
    network = small_network().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    count_madds(network, torch.randn(2, 3, 10, 12))
    torch.testing.assert_close(dict(network.state_dict()), before)
    assert network.training


def test_a_network_in_training_mode_is_counted_with_a_single_image() -> None:
    """Batch norm refuses to train on one value per channel, which a 1 x 1 map of one image is."""
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    assert count_madds(network, torch.zeros(1, 3, 3, 3)) == 3 * 8 * 9
