"""What Google publishes of the MobileNets: archives without a checksum, to be fetched by hand and unpacked.

Figures and addresses from the README files of tensorflow/models. The archives hold a TF checkpoint and mostly a TFLite
file, either of which mbdet reads. Those for 8 bits, and the detectors with PPN or FPN, are not here: they do not load.
"""

from mbdet.weights.origin import TF, PublishedWeights

V1_URL = "https://download.tensorflow.org/models/mobilenet_v1_2018_02_22"
V2_URL = "https://storage.googleapis.com/mobilenet_v2/checkpoints"
V3_URL = "https://storage.googleapis.com/mobilenet_v3/checkpoints"
DETECTION_URL = "https://download.tensorflow.org/models/object_detection"
SEGMENTATION_URL = "https://download.tensorflow.org/models"

# Width, resolution: top-1, top-5.
V1 = {
    ("1.0", 224): (70.9, 89.9), ("1.0", 192): (70.0, 89.2), ("1.0", 160): (68.0, 87.7), ("1.0", 128): (65.2, 85.8),
    ("0.75", 224): (68.4, 88.2), ("0.75", 192): (67.2, 87.3), ("0.75", 160): (65.3, 86.0), ("0.75", 128): (62.1, 83.9),
    ("0.5", 224): (63.3, 84.9), ("0.5", 192): (61.7, 83.6), ("0.5", 160): (59.1, 81.9), ("0.5", 128): (56.3, 79.4),
    ("0.25", 224): (49.8, 74.2), ("0.25", 192): (47.7, 72.3), ("0.25", 160): (45.5, 70.3), ("0.25", 128): (41.5, 66.3),
}  # fmt: skip
V2 = {
    ("1.4", 224): (75.0, 92.5), ("1.3", 224): (74.4, 92.1),
    ("1.0", 224): (71.8, 91.0), ("1.0", 192): (70.7, 90.1), ("1.0", 160): (68.8, 89.0), ("1.0", 128): (65.3, 86.9),
    ("1.0", 96): (60.3, 83.2), ("0.75", 224): (69.8, 89.6), ("0.75", 192): (68.7, 88.9), ("0.75", 160): (66.4, 87.3),
    ("0.75", 128): (63.2, 85.3), ("0.75", 96): (58.8, 81.6), ("0.5", 224): (65.4, 86.4), ("0.5", 192): (63.9, 85.4),
    ("0.5", 160): (61.0, 83.2), ("0.5", 128): (57.7, 80.8), ("0.5", 96): (51.2, 75.8), ("0.35", 224): (60.3, 82.9),
    ("0.35", 192): (58.2, 81.2), ("0.35", 160): (55.7, 79.1), ("0.35", 128): (50.8, 75.0), ("0.35", 96): (45.5, 70.4),
}  # fmt: skip
# Name: top-1, network.
V3 = {
    "v3-large_224_1.0_float": (75.2, "MobileNetV3()"),
    "v3-large_224_0.75_float": (73.3, "MobileNetV3(width_mult=0.75)"),
    "v3-small_224_1.0_float": (67.5, "MobileNetV3('small')"),
    "v3-small_224_0.75_float": (65.4, "MobileNetV3('small', width_mult=0.75)"),
    "v3-large-minimalistic_224_1.0_float": (72.3, "MobileNetV3(minimalistic=True)"),
    "v3-small-minimalistic_224_1.0_float": (61.9, "MobileNetV3('small', minimalistic=True)"),
}


def _entry(url: str, accuracy: str, fits: str) -> PublishedWeights:
    return PublishedWeights(url, None, "Apache-2.0", accuracy, TF, fits)


GOOGLE = {
    **{
        f"google/mobilenet_v1_{width}_{size}": _entry(
            f"{V1_URL}/mobilenet_v1_{width}_{size}.tgz",
            f"ImageNet-1k top-1 {top1}, top-5 {top5} at {size} pixels",
            f"MobileNetV1({float(width)})",
        )
        for (width, size), (top1, top5) in V1.items()
    },
    **{
        f"google/mobilenet_v2_{width}_{size}": _entry(
            f"{V2_URL}/mobilenet_v2_{width}_{size}.tgz",
            f"ImageNet-1k top-1 {top1}, top-5 {top5} at {size} pixels",
            f"MobileNetV2({float(width)})",
        )
        for (width, size), (top1, top5) in V2.items()
    },
    **{
        f"google/{name}": _entry(f"{V3_URL}/{name}.tgz", f"ImageNet-1k top-1 {top1}, top-5 unknown", fits)
        for name, (top1, fits) in V3.items()
    },
    "google/ssd_mobilenet_v1_coco_2018_01_28": _entry(
        f"{DETECTION_URL}/ssd_mobilenet_v1_coco_2018_01_28.tar.gz",
        "COCO AP 21, rounded, on a part of val",
        "SSD(MobileNetV1(min_channels=16), 80 or 90)",
    ),
    "google/ssd_mobilenet_v2_coco_2018_03_29": _entry(
        f"{DETECTION_URL}/ssd_mobilenet_v2_coco_2018_03_29.tar.gz",
        "COCO AP 22, rounded, on a part of val",
        "SSD(MobileNetV2(), 80 or 90, predictor='conv3', extra='separable')",
    ),
    "google/ssdlite_mobilenet_v2_coco_2018_05_09": _entry(
        f"{DETECTION_URL}/ssdlite_mobilenet_v2_coco_2018_05_09.tar.gz",
        "COCO AP 22, rounded, on a part of val",
        "SSDLite(MobileNetV2(scale_last=True), 80 or 90, (300, 300))",
    ),
    "google/ssd_mobilenet_v3_large_coco_2020_01_14": _entry(
        f"{DETECTION_URL}/ssd_mobilenet_v3_large_coco_2020_01_14.tar.gz",
        "COCO AP 22.6",
        "SSDLite(MobileNetV3(reduced_tail='detection'), 80 or 90)",
    ),
    "google/ssd_mobilenet_v3_small_coco_2020_01_14": _entry(
        f"{DETECTION_URL}/ssd_mobilenet_v3_small_coco_2020_01_14.tar.gz",
        "COCO AP 15.4",
        "SSDLite(MobileNetV3('small', reduced_tail='detection'), 80 or 90)",
    ),
    "google/deeplabv3_mnv2_pascal_trainval_2018_01_29": _entry(
        f"{SEGMENTATION_URL}/deeplabv3_mnv2_pascal_trainval_2018_01_29.tar.gz",
        "VOC 2012 test mIOU 80.25, at output stride 8 with several scales and flips",
        "DeepLabV3(MobileNetV2(last_channels=None, output_stride=8), 21, rates=())",
    ),
}
