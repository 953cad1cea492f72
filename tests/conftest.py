"""Fixtures for all tests."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder with the real `weights/` and `coco/`; skip the test where there is none."""
    root = Path(os.environ.get("MBDET_REAL_DATA", Path(__file__).parents[2] / "shared" / "real"))
    if not (root / "weights").is_dir():
        pytest.skip(f"no real data at {root}; point MBDET_REAL_DATA to it")
    return root
