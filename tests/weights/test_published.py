"""Downloading by name, with a local file in the place of the server."""

import hashlib
from pathlib import Path

import pytest
import timm
from torchvision import models

from mbdet.errors import InputError
from mbdet.weights import PUBLISHED, PublishedWeights
from mbdet.weights.origin import TF
from mbdet.weights.published import published_file, resolve


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


def publish(monkeypatch: pytest.MonkeyPatch, source: Path, sha256: str | None) -> None:
    monkeypatch.setitem(PUBLISHED, "ours/net", PublishedWeights(source.as_uri(), sha256, "MIT", "none", TF, "none"))


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


def test_an_unknown_name_meets_the_close_ones() -> None:
    with pytest.raises(InputError, match=r"no such .*did you mean .*mobilenet_v2\.imagenet1k_v"):
        resolve("torchvision/mobilenet_v2")


@pytest.mark.parametrize("name", PUBLISHED)
def test_entries_are_complete(name: str) -> None:
    weights = PUBLISHED[name]
    assert weights.url.startswith("http" if weights.sha256 is None else "https://")
    if weights.sha256 is not None:
        assert len(weights.sha256) >= 8
        assert weights.sha256 in weights.url
    assert weights.licence
    assert weights.accuracy
    assert weights.fits


def test_what_has_no_checksum_is_not_downloaded(
    monkeypatch: pytest.MonkeyPatch, source: Path, checkpoints: Path
) -> None:
    publish(monkeypatch, source, None)
    with pytest.raises(InputError, match=rf"ours/net: .*no checksum.*fetch {source.as_uri()} yourself"):
        resolve("ours/net")
    assert not checkpoints.exists()


def test_a_published_file_is_known_by_its_checksum(monkeypatch: pytest.MonkeyPatch, source: Path) -> None:
    assert published_file(source) is None
    publish(monkeypatch, source, hashlib.sha256(b"the weights").hexdigest()[:8])
    assert published_file(source) is PUBLISHED["ours/net"]


def test_torchvision_publishes_these() -> None:
    """Addresses and figures as torchvision itself has them."""
    known = [
        *models.MobileNet_V2_Weights,
        *models.MobileNet_V3_Large_Weights,
        *models.MobileNet_V3_Small_Weights,
        *models.detection.SSDLite320_MobileNet_V3_Large_Weights,
        *models.segmentation.LRASPP_MobileNet_V3_Large_Weights,
        *models.segmentation.DeepLabV3_MobileNet_V3_Large_Weights,
    ]
    ours = {weights.url: weights.accuracy for name, weights in PUBLISHED.items() if name.startswith("torchvision/")}
    assert {weights.url for weights in known} == set(ours)
    for weights in known:
        (figures,) = weights.meta["_metrics"].values()
        assert all(f"{value:.3f}".rstrip("0") in ours[weights.url] for value in figures.values())


def test_timm_publishes_these() -> None:
    """Addresses and normalisation as timm itself has them."""
    for name, weights in PUBLISHED.items():
        if name.startswith("timm/"):
            config = timm.get_pretrained_cfg(name.removeprefix("timm/"))
            assert weights.url == config.url
            assert weights.convention.mean == pytest.approx([255 * value for value in config.mean])
            assert weights.convention.std == pytest.approx([255 * value for value in config.std])
