"""Packages of npm, each of one version and with the checksum of its archive."""

import base64
import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mbdet.errors import InputError
from mbdet.runtime.files import write_atomically

_SECONDS = 600  # that a download may take
# How lines of npm begin that tell people nothing, and the one that names a log of theirs.
_NOT_TOLD = ("code ", "errno ", "syscall ", "path ", "dest ", "type ", "A complete log")


class Package(NamedTuple):
    """One version of a package.

    Attributes:
        name: As npm knows it.
        version: Its number.
        integrity: Checksum of its archive, as npm writes it: `sha512-` and base64.
    """

    name: str
    version: str
    integrity: str

    @property
    def archive(self) -> str:
        """Name of the archive, the one that `npm pack` gives it."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


def cache_folder() -> Path:
    """Return where the archives are kept for this user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mbdet"


def fetch(package: Package, folder: Path, source: str | None = None) -> Path:
    """Return the archive of a package, from the folder or else from npm, which knows the user's registry and proxies.

    Args:
        package: What to fetch.
        folder: Where the archive is kept.
        source: Another place for npm to take it from, such as a folder or an archive.

    Returns:
        The archive, whose checksum is right.

    Raises:
        InputError: If npm is missing or cannot fetch it, or the archive is not the one that the checksum is of.
    """
    archive = folder / package.archive
    if archive.is_file():
        _check(archive, package, f"{archive}: is damaged; remove it, to have it fetched again")
        return archive
    npm = shutil.which("npm")
    if npm is None:
        raise InputError(
            f"{package.name} {package.version} is fetched with npm, which is not installed; install Node.js, or copy"
            f" {package.archive} to {folder}"
        )
    with tempfile.TemporaryDirectory() as temporary:
        command = [npm, "pack", source or f"{package.name}@{package.version}", "--pack-destination", temporary]
        try:
            # In that folder, so that no project around it has a say.
            done = subprocess.run(command, cwd=temporary, capture_output=True, text=True, timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            raise InputError(f"{package.archive}: npm took more than {_SECONDS} seconds; try again") from None
        (packed, *_) = [*Path(temporary).glob("*.tgz"), None]
        if done.returncode or packed is None:
            raise InputError(
                f"{package.name} {package.version}: npm cannot fetch it ({reason(done.stderr)}); connect to its"
                f" registry, or copy {package.archive} to {folder}"
            )
        _check(packed, package, f"{package.archive}: npm gave another archive than that of the pinned checksum")
        with write_atomically(archive) as beside:
            shutil.copyfile(packed, beside)
    return archive


def reason(text: str) -> str:
    """Return why npm failed: its code, such as ENOTFOUND, and the first line that says something to people.

    Args:
        text: What npm, 9 or later, wrote to its standard error.
    """
    lines = [match[1].strip() for match in re.finditer(r"^npm (?:error|ERR!) (.+)$", text, re.MULTILINE)]
    code = next((line.removeprefix("code ") for line in lines if line.startswith("code ")), "")
    told = next((line for line in lines if line and not line.startswith(_NOT_TOLD)), "")
    if code in told:
        return told or "no reason given"
    return f"{code}: {told}" if told else code


def extract(archive: Path, files: Mapping[str, Path]) -> None:
    """Write some files of an archive.

    Args:
        archive: Of a package.
        files: Where to write each, by its name within the package; the folders exist.
    """
    with tarfile.open(archive, "r|gz") as content:  # in one pass, as going back means to decompress anew
        for member in content:
            path = files.get(member.name.removeprefix("package/"))
            source = content.extractfile(member) if path else None
            if path and source:
                with source, path.open("wb") as target:
                    shutil.copyfileobj(source, target)


def _check(archive: Path, package: Package, problem: str) -> None:
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    if f"sha512-{base64.b64encode(digest).decode()}" != package.integrity:
        raise InputError(problem)
