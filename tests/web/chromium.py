"""A real headless Chromium for the tests, and what drives it, both from npm."""

import json
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from mbdet.errors import InputError
from mbdet.web.npm import Package, extract, fetch

PLAYWRIGHT = Package(
    "playwright-core",
    "1.65.1",
    "sha512-hqPpz7blSMPxWVdoeE1yiBSzXsKiVOd2k+kjCvmUywD2GPO2Dd9HfcWnq9NN0GHbNZDFgZ9JfBFr+X5/BLo0qw==",
)
CHROMIUM = Package(
    "@sparticuz/chromium",
    "149.0.0",
    "sha512-2NECBVKlUA9xIUXb4fT8OoGKdAJs+I2tNYscO8FwcxCKCWA7FmpPI0fdVxGJoIJglrFZYn+4YEJqChq4rdrxQg==",
)
DONE = r"%\.$|\d\.$|Nothing"  # what the status says of a picture in which something was looked for
_DRIVER = Path(__file__).parent / "drive.mjs"
_DECOMPRESS = """
import { createReadStream, createWriteStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import { createBrotliDecompress } from "node:zlib";
for (const name of process.argv.slice(1))
  await pipeline(createReadStream(name), createBrotliDecompress(), createWriteStream(name.replace(/\\.br$/, "")));
"""


class Browser(NamedTuple):
    """A Chromium that can be driven."""

    library: Path  # playwright-core's entry
    chromium: Path
    libraries: Path | None  # shared libraries that it brings

    def check(self) -> str | None:
        """Return why it cannot run here, such as a missing library of the system; None where it can."""
        environment = None if self.libraries is None else {"LD_LIBRARY_PATH": str(self.libraries)}
        done = subprocess.run([self.chromium, "--version"], env=environment, capture_output=True, text=True)
        return None if done.returncode == 0 else f"Chromium does not run here: {done.stderr.strip()}"

    def drive(
        self,
        url: str,
        steps: list[list[Any]],
        *,
        viewport: tuple[int, int] = (1280, 800),
        colours: str = "light",
        flags: tuple[str, ...] = (),
        permissions: tuple[str, ...] = (),
    ) -> dict[str, Any]:
        """Open a browser, take the steps of drive.mjs, and return what they gave; fail if one cannot be taken."""
        order = {
            "library": str(self.library),
            "chromium": str(self.chromium),
            "libraries": None if self.libraries is None else str(self.libraries),
            "flags": flags,
            "url": url,
            "viewport": {"width": viewport[0], "height": viewport[1]},
            "colours": colours,
            "permissions": permissions,
            "steps": steps,
        }
        done = subprocess.run(
            ["node", str(_DRIVER)], input=json.dumps(order), capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        assert len(report["values"]) == len(steps), report["errors"]
        return report


def install(folder: Path) -> Browser:
    """Fetch both into a folder and unpack them there.

    Raises:
        InputError: If npm is missing or cannot fetch them, or no Chromium is there for this system.
    """
    library = unpack_once(folder, fetch(PLAYWRIGHT, folder), _unpack_archive)
    entry = library / "package" / "index.js"
    on_linux = sys.platform == "linux" and platform.machine() == "x86_64"
    if not on_linux:
        found = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
        if found is None:
            raise InputError("no Chromium is installed, and that of npm is for x86-64 Linux; install one")
        return Browser(entry, Path(found), None)
    unpacked = unpack_once(folder, fetch(CHROMIUM, folder), _unpack_chromium)
    return Browser(entry, unpacked / "chromium", unpacked / "lib")


def unpack_once(folder: Path, archive: Path, unpack: Callable[[Path, Path], None]) -> Path:
    """Return the folder of an unpacked archive, which is there whole or not at all: others may do the same meanwhile.

    Args:
        folder: Where it is kept, under the archive's name and thus its version.
        archive: What to unpack.
        unpack: Unpacks the archive into an empty folder.
    """
    unpacked = folder / archive.stem
    if not unpacked.is_dir():
        with tempfile.TemporaryDirectory(dir=folder, prefix=f"{archive.stem}.") as temporary:
            whole = Path(temporary) / "whole"
            whole.mkdir()
            unpack(archive, whole)
            try:
                whole.replace(unpacked)
            except OSError:  # someone was faster
                if not unpacked.is_dir():
                    raise
    return unpacked


def _unpack_archive(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as content:
        content.extractall(folder, filter="data")


def _unpack_chromium(archive: Path, folder: Path) -> None:
    names = ("chromium", "al2023.tar", "swiftshader.tar", "fonts.tar")
    compressed = [folder / f"{name}.br" for name in names]
    extract(archive, {f"bin/{path.name}": path for path in compressed})
    subprocess.run(["node", "--input-type=module", "-e", _DECOMPRESS, *map(str, compressed)], check=True)
    for name in names[1:]:
        _unpack_archive(folder / name, folder)
        (folder / name).unlink()
    for path in compressed:
        path.unlink()
    (folder / "chromium").chmod(0o755)
