"""What torchvision publishes; figures from its weights' metadata."""

from mbdet.weights.origin import (
    TORCHVISION_SEGMENTATION,
    TORCHVISION_SSDLITE,
    TORCHVISION_V2,
    TORCHVISION_V3,
    Convention,
    PublishedWeights,
)


def _entry(file: str, accuracy: str, convention: Convention, fits: str) -> PublishedWeights:
    checksum = file.rpartition("-")[2].removesuffix(".pth")
    return PublishedWeights(
        f"https://download.pytorch.org/models/{file}", checksum, "BSD-3-Clause", accuracy, convention, fits
    )


V2 = "MobileNetV2()"
LARGE = "MobileNetV3()"
SMALL = "MobileNetV3('small')"
SSDLITE = (
    "SSDLite(MobileNetV3(reduced_tail='detection'), 80 or 90, anchors=AnchorConfig('torchvision')) with softmax scores"
)
DILATED = "MobileNetV3(output_stride=16, dilation='torchvision')"

TORCHVISION = {
    "torchvision/mobilenet_v2.imagenet1k_v1": _entry(
        "mobilenet_v2-b0353104.pth", "ImageNet-1k top-1 71.878, top-5 90.286", TORCHVISION_V2, V2
    ),
    "torchvision/mobilenet_v2.imagenet1k_v2": _entry(
        "mobilenet_v2-7ebf99e0.pth", "ImageNet-1k top-1 72.154, top-5 90.822", TORCHVISION_V2, V2
    ),
    "torchvision/mobilenet_v3_large.imagenet1k_v1": _entry(
        "mobilenet_v3_large-8738ca79.pth", "ImageNet-1k top-1 74.042, top-5 91.340", TORCHVISION_V3, LARGE
    ),
    "torchvision/mobilenet_v3_large.imagenet1k_v2": _entry(
        "mobilenet_v3_large-5c1a4163.pth", "ImageNet-1k top-1 75.274, top-5 92.566", TORCHVISION_V3, LARGE
    ),
    "torchvision/mobilenet_v3_small.imagenet1k_v1": _entry(
        "mobilenet_v3_small-047dcff4.pth", "ImageNet-1k top-1 67.668, top-5 87.402", TORCHVISION_V3, SMALL
    ),
    "torchvision/ssdlite320_mobilenet_v3_large.coco_v1": _entry(
        "ssdlite320_mobilenet_v3_large_coco-a79551df.pth", "COCO val2017 AP 21.3", TORCHVISION_SSDLITE, SSDLITE
    ),
    "torchvision/lraspp_mobilenet_v3_large.coco_with_voc_labels_v1": _entry(
        "lraspp_mobilenet_v3_large-d234d4ea.pth",
        "COCO val2017 with VOC's classes mIOU 57.9, pixel accuracy 91.2",
        TORCHVISION_SEGMENTATION,
        f"LRASPP({DILATED}, 21, pool_size=None, low_level='c3_first', gate_bias=False, align_corners=False)",
    ),
    "torchvision/deeplabv3_mobilenet_v3_large.coco_with_voc_labels_v1": _entry(
        "deeplabv3_mobilenet_v3_large-fc3c493d.pth",
        "COCO val2017 with VOC's classes mIOU 60.3, pixel accuracy 91.2",
        TORCHVISION_SEGMENTATION,
        f"DeepLabV3({DILATED}, 21, rates=(12, 24, 36), refinements=1, aux='c3_first', align_corners=False)",
    ),
}
