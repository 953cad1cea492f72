"""The same random weights in every run."""

import pytest
import torch


@pytest.fixture(autouse=True)
def seed() -> None:
    """Seed the networks that the tests build."""
    torch.manual_seed(0)
