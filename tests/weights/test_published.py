"""Downloading by name, with a local file in the place of the server."""

import hashlib
from pathlib import Path

import pytest

from mbdet.errors import InputError
from mbdet.weights import PUBLISHED, PublishedWeights
from mbdet.weights.published import resolve


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return the file that the server offers."""
    path = tmp_path / "server" / "weights-1234.pth"
    path.parent.mkdir()
    path.write_bytes(b"the weights")
    return path


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that downloads go to."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "hub" / "checkpoints"


def publish(monkeypatch: pytest.MonkeyPatch, source: Path, sha256: str) -> None:
    monkeypatch.setitem(PUBLISHED, "ours/net", PublishedWeights(source.as_uri(), sha256, "MIT", "none"))


def test_downloads_once(monkeypatch: pytest.MonkeyPatch, source: Path, checkpoints: Path) -> None:
    publish(monkeypatch, source, hashlib.sha256(b"the weights").hexdigest()[:8])
    assert resolve("ours/net") == checkpoints / "weights-1234.pth"
    source.unlink()
    assert resolve("ours/net").read_bytes() == b"the weights"
    assert [path.name for path in checkpoints.iterdir()] == ["weights-1234.pth"]


def test_a_wrong_checksum_leaves_nothing(monkeypatch: pytest.MonkeyPatch, source: Path, checkpoints: Path) -> None:
    publish(monkeypatch, source, "00000000")
    for _ in range(2):
        with pytest.raises(InputError, match=r"ours/net: .*weights-1234\.pth does not have checksum 00000000"):
            resolve("ours/net")
        assert list(checkpoints.iterdir()) == []


def test_an_unreachable_server(monkeypatch: pytest.MonkeyPatch, source: Path, checkpoints: Path) -> None:
    source.unlink()
    publish(monkeypatch, source, "00000000")
    with pytest.raises(InputError, match=r"ours/net: cannot download .* put it at ") as caught:
        resolve("ours/net")
    assert str(checkpoints / "weights-1234.pth") in str(caught.value)
    assert list(checkpoints.iterdir()) == []


def test_a_path_stays_a_path(source: Path) -> None:
    assert resolve(str(source)) == source


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"torchvision/mobilenet: no such .*torchvision/mobilenet_v2\.imagenet1k_v1"):
        resolve("torchvision/mobilenet")


@pytest.mark.parametrize("name", PUBLISHED)
def test_entries_are_complete(name: str) -> None:
    weights = PUBLISHED[name]
    assert weights.url.startswith("https://")
    assert len(weights.sha256) >= 8
    assert weights.sha256 in weights.url
    assert weights.licence
    assert weights.accuracy
