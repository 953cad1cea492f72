"""Weights that others publish, by name."""

import hashlib
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError

import torch

from mbdet.errors import InputError


class PublishedWeights(NamedTuple):
    """Where a weight file comes from and what it is."""

    url: str
    sha256: str  # the first digits, as in the file's name
    licence: str
    accuracy: str  # as published, with the data it was measured on


PUBLISHED = {
    "torchvision/mobilenet_v2.imagenet1k_v1": PublishedWeights(
        url="https://download.pytorch.org/models/mobilenet_v2-b0353104.pth",
        sha256="b0353104",
        licence="BSD-3-Clause",
        accuracy="ImageNet-1k top-1 71.878, top-5 90.286",
    ),
    "torchvision/mobilenet_v2.imagenet1k_v2": PublishedWeights(
        url="https://download.pytorch.org/models/mobilenet_v2-7ebf99e0.pth",
        sha256="7ebf99e0",
        licence="BSD-3-Clause",
        accuracy="ImageNet-1k top-1 72.154, top-5 90.822",
    ),
}


def resolve(source: str) -> Path:
    """Return the local file of a name or path, downloading it on first use.

    Args:
        source: A name in `PUBLISHED`, or the path of a weight file.

    Returns:
        The file; a published one lies in PyTorch's hub folder (`TORCH_HOME`).

    Raises:
        InputError: If it is neither, cannot be downloaded, or has the wrong checksum.
    """
    weights = PUBLISHED.get(source)
    if weights is None:
        path = Path(source).expanduser()
        if not path.is_file():
            raise InputError(f"{source}: no such weight file; published names are {', '.join(PUBLISHED)}")
        return path
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    if path.exists():
        with path.open("rb") as file:
            if not hashlib.file_digest(file, "sha256").hexdigest().startswith(weights.sha256):
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
