import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mbdet.errors import InputError
from mbdet.web.npm import Package, cache_folder, extract, fetch, reason


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a package's archive as npm makes it."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    folder = tmp_path / "source"
    (folder / "dist").mkdir(parents=True)
    (folder / "package.json").write_text(json.dumps({"name": "@some/engine", "version": "1.2.3"}))
    (folder / "dist" / "run.js").write_text("run();\n")
    (folder / "dist" / "other.js").write_text("other();\n")
    subprocess.run(["npm", "pack", str(folder)], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path / "some-engine-1.2.3.tgz"


def package_of(archive: Path) -> Package:
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    return Package("@some/engine", "1.2.3", f"sha512-{digest}")


def test_a_package_is_fetched_once(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, folder = package_of(source), tmp_path / "cache" / "deep"
    archive = fetch(package, folder, str(source))
    assert archive == folder / "some-engine-1.2.3.tgz"
    assert archive.read_bytes() == source.read_bytes()
    assert list(folder.iterdir()) == [archive]
    monkeypatch.setenv("PATH", "")  # from now on without npm
    assert fetch(package, folder) == archive


def test_two_processes_fetch_at_once(source: Path, tmp_path: Path) -> None:
    package, folder = package_of(source), tmp_path / "cache"
    code = (
        "from pathlib import Path; from mbdet.web.npm import Package, fetch\n"
        f"fetch(Package(*{tuple(package)!r}), Path({str(folder)!r}), {str(source)!r})"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    assert [path.name for path in folder.iterdir()] == [source.name]
    assert fetch(package, folder).read_bytes() == source.read_bytes()


def test_only_the_files_asked_for_are_extracted(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "renamed.js"
    extract(source, {"dist/run.js": target})
    assert target.read_text() == "run();\n"


def test_another_archive_is_refused_and_not_kept(source: Path, tmp_path: Path) -> None:
    package = package_of(source)._replace(integrity=f"sha512-{base64.b64encode(bytes(64)).decode()}")
    with pytest.raises(InputError, match=r"some-engine-1\.2\.3\.tgz: npm gave another archive than that of the pinned"):
        fetch(package, tmp_path / "cache", str(source))
    assert not (tmp_path / "cache").exists()


def test_a_damaged_archive_is_named(source: Path, tmp_path: Path) -> None:
    archive = fetch(package_of(source), tmp_path / "cache", str(source))
    package = package_of(source)
    archive.write_bytes(archive.read_bytes()[:-1])
    with pytest.raises(InputError, match=rf"{re.escape(str(archive))}: is damaged; remove it"):
        fetch(package, tmp_path / "cache")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (  # npm 10
            """npm warn config production Use `--omit=dev` instead.
npm notice Beginning October 4, 2021, all connections to the registry use TLS.
npm ERR! code ENOTFOUND
npm ERR! syscall getaddrinfo
npm ERR! errno ENOTFOUND
npm ERR! network request to https://npm.example/engine failed, reason: getaddrinfo ENOTFOUND npm.example
npm ERR! network This is a problem related to network connectivity.
npm ERR! network
npm ERR! A complete log of this run can be found in: /home/someone/.npm/_logs/debug-0.log
""",
            "network request to https://npm.example/engine failed, reason: getaddrinfo ENOTFOUND npm.example",
        ),
        (  # npm 11
            """npm error code ECONNREFUSED
npm error syscall connect
npm error errno ECONNREFUSED
npm error FetchError: request to https://npm.example/engine failed, reason: connect ECONNREFUSED 192.0.2.1:443
npm error     at ClientRequest.<anonymous> (/usr/lib/node_modules/npm/lib/index.js:130:14)
npm error   code: 'ECONNREFUSED',
npm error }
npm error
npm error If you are behind a proxy, please make sure that the 'proxy' config is set properly.
""",
            "FetchError: request to https://npm.example/engine failed, reason: connect ECONNREFUSED 192.0.2.1:443",
        ),
        (
            """npm warn tarball tarball data for file:engine.tgz (null) seems to be corrupted. Trying again.
npm error code ENOENT
npm error syscall open
npm error path /tmp/engine.tgz
npm error errno -2
npm error enoent ENOENT: no such file or directory, open 'engine.tgz'
npm error enoent This is related to npm not being able to find a file.
""",
            "enoent ENOENT: no such file or directory, open 'engine.tgz'",
        ),
        (
            """npm error code ETARGET
npm error notarget No matching version found for engine@99.0.0.
npm error notarget In most cases you or one of your dependencies are requesting a version that doesn't exist.
""",
            "ETARGET: notarget No matching version found for engine@99.0.0.",
        ),
        ("npm ERR! code ETIMEDOUT\nnpm ERR! errno ETIMEDOUT\n", "ETIMEDOUT"),
        ("npm warn something\nKilled\n", "no reason given"),
        ("", "no reason given"),
    ],
)
def test_the_line_of_npm_that_says_something(text: str, expected: str) -> None:
    assert reason(text) == expected


def test_what_npm_says_is_passed_on(tmp_path: Path) -> None:
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    package = Package("engine", "1.0.0", "sha512-")
    with pytest.raises(
        InputError, match=r"engine 1\.0\.0: npm cannot fetch it \(.+\); connect .* or copy engine-1"
    ) as error:
        fetch(package, tmp_path, str(tmp_path / "missing.tgz"))
    assert "\n" not in str(error.value)


def test_without_npm_the_cure_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(
        InputError, match=r"fetched with npm, which is not installed; install Node\.js, or copy engine-1"
    ):
        fetch(Package("engine", "1.0.0", "sha512-"), tmp_path)


def test_archives_are_kept_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "mbdet"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "mbdet"
