"""Accuracies that the papers and their authors' pages state, with the multiply-adds of the same networks.

Nothing here was measured by us. All is for float32, one crop or one scale.
"""

from typing import NamedTuple


class PublishedClassifier(NamedTuple):
    """ImageNet accuracy of one width and resolution."""

    width_mult: float
    size: int  # side of the input in pixels
    madds: float  # millions
    top1: float  # percent


class ClassifierFamily(NamedTuple):
    """All published sizes of one network."""

    name: str
    source: str
    models: tuple[PublishedClassifier, ...]


class PublishedDetector(NamedTuple):
    """COCO average precision of an SSDLite at 320 x 320."""

    name: str
    madds: float  # billions
    ap: float  # percent, COCO test-dev


def _family(name: str, source: str, rows: tuple[tuple[float, int, float, float], ...]) -> ClassifierFamily:
    return ClassifierFamily(name, source, tuple(PublishedClassifier(*row) for row in rows))


IMAGENET = (
    _family(
        "MobileNetV1",
        # The page's multiply-adds at width 0.75 (317 M, where the paper's Table 6 has 325 M) and at 0.25 and 192 pixels
        # (34 M) contradict its other rows, so these are counted.
        "TF-Slim, mobilenet_v1.md (2018), accuracy; multiply-adds counted",
        (
            (1.0, 224, 568.74, 70.9),
            (1.0, 192, 418.12, 70.0),
            (1.0, 160, 290.68, 68.0),
            (1.0, 128, 186.40, 65.2),
            (0.75, 224, 325.40, 68.4),
            (0.75, 192, 239.27, 67.2),
            (0.75, 160, 166.40, 65.3),
            (0.75, 128, 106.77, 62.1),
            (0.5, 224, 149.50, 63.3),
            (0.5, 192, 109.97, 61.7),
            (0.5, 160, 76.52, 59.1),
            (0.5, 128, 49.16, 56.3),
            (0.25, 224, 41.03, 49.8),
            (0.25, 192, 30.21, 47.7),
            (0.25, 160, 21.06, 45.5),
            (0.25, 128, 13.57, 41.5),
        ),
    ),
    _family(
        "MobileNetV2",
        "TF-Slim, mobilenet/README.md, table of MobileNetV2",
        (
            (1.4, 224, 582, 75.0),
            (1.3, 224, 509, 74.4),
            (1.0, 224, 300, 71.8),
            (1.0, 192, 221, 70.7),
            (1.0, 160, 154, 68.8),
            (1.0, 128, 99, 65.3),
            (1.0, 96, 56, 60.3),
            (0.75, 224, 209, 69.8),
            (0.75, 192, 153, 68.7),
            (0.75, 160, 107, 66.4),
            (0.75, 128, 69, 63.2),
            (0.75, 96, 39, 58.8),
            (0.5, 224, 97, 65.4),
            (0.5, 192, 71, 63.9),
            (0.5, 160, 50, 61.0),
            (0.5, 128, 32, 57.7),
            (0.5, 96, 18, 51.2),
            (0.35, 224, 59, 60.3),
            (0.35, 192, 43, 58.2),
            (0.35, 160, 30, 55.7),
            (0.35, 128, 20, 50.8),
            (0.35, 96, 11, 45.5),
        ),
    ),
    _family(
        "MobileNetV3-Large",
        "MobileNetV3 paper (arXiv 1905.02244v1), Table 9",
        (
            (1.25, 224, 356, 76.6),
            (1.0, 256, 282, 76.0),
            (1.0, 224, 217, 75.2),
            (1.0, 192, 160, 73.7),
            (1.0, 160, 112, 71.7),
            (1.0, 128, 73, 68.4),
            (1.0, 96, 43, 63.3),
            (0.75, 224, 155, 73.3),
            (0.5, 224, 69, 68.8),
            (0.35, 224, 40, 64.2),
        ),
    ),
    _family(
        "MobileNetV3-Small",
        # At width 1 and 224 pixels the first version prints 66 M, which fits none of its other rows; the last has 56 M.
        "MobileNetV3 paper (arXiv 1905.02244v1), Table 9; width 1 at 224 pixels from the last version's Table 3",
        (
            (1.25, 224, 91, 70.4),
            (1.0, 256, 74, 68.5),
            (1.0, 224, 56, 67.4),
            (1.0, 192, 42, 65.4),
            (1.0, 160, 30, 62.8),
            (1.0, 128, 20, 57.3),
            (1.0, 96, 12, 51.7),
            (0.75, 224, 44, 65.4),
            (0.5, 224, 23, 58.0),
            (0.35, 224, 13, 49.8),
        ),
    ),
)

# MobileNetV3 paper (arXiv 1905.02244), Table 6; "reduced" has half the channels between c4 and c5.
COCO = (
    PublishedDetector("V1", 1.3, 22.2),
    PublishedDetector("V2", 0.80, 22.1),
    PublishedDetector("V2 0.5", 0.27, 16.6),
    PublishedDetector("V2 0.35", 0.16, 13.7),
    PublishedDetector("V3-Large", 0.62, 22.0),
    PublishedDetector("V3-Large reduced", 0.51, 22.0),
    PublishedDetector("V3-Small", 0.21, 16.0),
    PublishedDetector("V3-Small reduced", 0.16, 16.1),
)
