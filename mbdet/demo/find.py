"""What a user means by a source."""

from pathlib import Path

from mbdet.demo.camera import Camera
from mbdet.demo.sources import PictureFiles, Source, VideoFile
from mbdet.errors import InputError
from mbdet.runtime.image import PICTURES


def find_source(text: str, rate: float) -> Source:
    """Open a source.

    Args:
        text: The number of a camera; the address of a stream, such as rtsp://...; or a video, picture or folder.
        rate: Pictures of a folder a second.

    Raises:
        InputError: If it cannot be opened.
    """
    path = Path(text)
    if text.isdecimal():
        return Camera(int(text))
    if "://" in text:
        return Camera(text)
    if path.is_dir() or (path.suffix.lower() in PICTURES and path.exists()):
        return PictureFiles(path, rate)
    if path.is_file():
        return VideoFile(path)
    raise InputError(f"{text}: there is no such video, picture or folder; give one, or the number of a camera")
