"""Weights that others publish, by name."""

import difflib
import hashlib
from pathlib import Path
from urllib.error import URLError

import torch

from mbdet.errors import InputError
from mbdet.weights.origin import PublishedWeights
from mbdet.weights.published_google import GOOGLE
from mbdet.weights.published_timm import TIMM_HUB
from mbdet.weights.published_torchvision import TORCHVISION

PUBLISHED: dict[str, PublishedWeights] = {**TORCHVISION, **TIMM_HUB, **GOOGLE}


def resolve(source: str) -> Path:
    """Return the local file of a name or path, downloading it on first use.

    Args:
        source: A name in `PUBLISHED`, or the path of a weight file; of a TF checkpoint, its prefix.

    Returns:
        The file; a published one lies in PyTorch's hub folder (`TORCH_HOME`).

    Raises:
        InputError: If it is neither, cannot be downloaded, or has the wrong checksum or none to check.
    """
    weights = PUBLISHED.get(source)
    if weights is None:
        path = Path(source).expanduser()
        if not path.is_file() and not Path(f"{path}.index").is_file():
            close = difflib.get_close_matches(source, PUBLISHED, n=3)
            hint = f"did you mean {' or '.join(close)}? " if close else ""
            raise InputError(
                f"{source}: no such weight file or published name; {hint}mbdet weights list shows all names"
            )
        return path
    if weights.sha256 is None:
        raise InputError(
            f"{source}: its publisher states no checksum, so it is not downloaded; fetch {weights.url} yourself and"
            " give the file"
        )
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    if path.exists():
        if not _sha256(path).startswith(weights.sha256):
            raise InputError(f"{path}: does not have checksum {weights.sha256}; remove it to fetch {source} again")
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:  # writes to a temporary file and moves it into place when the checksum is right
            torch.hub.download_url_to_file(weights.url, str(path), hash_prefix=weights.sha256)
        except (URLError, OSError) as error:
            raise InputError(
                f"{source}: cannot download {weights.url} ({error}); fetch it elsewhere and put it at {path}"
            ) from error
        except RuntimeError as error:
            raise InputError(f"{source}: {weights.url} does not have checksum {weights.sha256}: {error}") from error
    return path


def published_file(path: Path) -> PublishedWeights | None:
    """Find out by its checksum which published file this is, whatever it is called; None if it is none."""
    digest = _sha256(path)
    return next((w for w in PUBLISHED.values() if w.sha256 and digest.startswith(w.sha256)), None)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
