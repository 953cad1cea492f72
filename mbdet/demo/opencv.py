"""OpenCV, which reads cameras and videos and writes videos."""

import os
from types import ModuleType

from mbdet.errors import InputError


def opencv() -> ModuleType:
    """Import OpenCV, and keep it from writing to the terminal: what matters of it we say ourselves.

    Raises:
        InputError: If it is not installed.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET
    try:
        import cv2
        from cv2.utils import logging
    except ImportError as error:
        raise InputError("cameras and videos need OpenCV: pip install opencv-python-headless") from error
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    return cv2
