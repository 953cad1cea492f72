"""mbdet: object detection and semantic segmentation on MobileNet backbones.

Importing this package imports neither torch nor anything else that is slow; the submodules do when they are used.
"""

__version__ = "0.1.0"
