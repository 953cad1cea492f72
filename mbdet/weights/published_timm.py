"""What timm publishes as plain files with a checksum in their names; figures from its results-imagenet.csv.

Its newer weights (mobilenetv1_*, *.ra4_*) lie on a hub that states none: fetch model.safetensors and config.json from
there by hand. Its mobilenetv2_110d, _120d, mobilenetv3_small_050, _150d and _rw are networks of their own and do not
fit ours.
"""

from dataclasses import replace

from mbdet.weights.origin import TF, TIMM, Convention, PublishedWeights

# MIIL's weights take [0, 1] as it is.
MIIL = replace(TIMM, mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0))
RELEASES = "https://github.com/rwightman/pytorch-image-models/releases/download"


def _entry(file: str, top1: float, top5: float, convention: Convention, fits: str) -> PublishedWeights:
    checksum = file.rpartition("-")[2].removesuffix(".pth")
    accuracy = f"ImageNet-1k top-1 {top1:.3f}, top-5 {top5:.3f}"
    return PublishedWeights(f"{RELEASES}/{file}", checksum, "Apache-2.0", accuracy, convention, fits)


TIMM_HUB = {
    "timm/mobilenetv2_050.lamb_in1k": _entry(
        "v0.1-weights/mobilenetv2_050-3d30d450.pth", 65.950, 86.088, TIMM, "MobileNetV2(0.5)"
    ),
    "timm/mobilenetv2_100.ra_in1k": _entry(
        "v0.1-weights/mobilenetv2_100_ra-b33bc2c4.pth", 72.976, 91.010, TIMM, "MobileNetV2()"
    ),
    "timm/mobilenetv2_140.ra_in1k": _entry(
        "v0.1-weights/mobilenetv2_140_ra-21a4e913.pth", 76.520, 92.986, TIMM, "MobileNetV2(1.4)"
    ),
    "timm/mobilenetv3_large_100.ra_in1k": _entry(
        "v0.1-weights/mobilenetv3_large_100_ra-f55367f5.pth", 75.766, 92.538, TIMM, "MobileNetV3()"
    ),
    "timm/mobilenetv3_large_100.miil_in21k_ft_in1k": _entry(
        "v0.1-tresnet/mobilenetv3_large_100_1k_miil_78_0-66471c13.pth", 77.918, 92.914, MIIL, "MobileNetV3()"
    ),
    "timm/mobilenetv3_small_075.lamb_in1k": _entry(
        "v0.1-weights/mobilenetv3_small_075_lambc-384766db.pth",
        65.234,
        85.446,
        TIMM,
        "MobileNetV3('small', width_mult=0.75)",
    ),
    "timm/mobilenetv3_small_100.lamb_in1k": _entry(
        "v0.1-weights/mobilenetv3_small_100_lamb-266a294c.pth", 67.656, 87.636, TIMM, "MobileNetV3('small')"
    ),
    "timm/tf_mobilenetv3_large_075.in1k": _entry(
        "v0.1-weights/tf_mobilenetv3_large_075-150ee8b0.pth", 73.432, 91.352, TF, "MobileNetV3(width_mult=0.75)"
    ),
    "timm/tf_mobilenetv3_large_100.in1k": _entry(
        "v0.1-weights/tf_mobilenetv3_large_100-427764d5.pth", 75.516, 92.594, TF, "MobileNetV3()"
    ),
    "timm/tf_mobilenetv3_large_minimal_100.in1k": _entry(
        "v0.1-weights/tf_mobilenetv3_large_minimal_100-8596ae28.pth",
        72.258,
        90.638,
        TF,
        "MobileNetV3(minimalistic=True)",
    ),
    "timm/tf_mobilenetv3_small_075.in1k": _entry(
        "v0.1-weights/tf_mobilenetv3_small_075-da427f52.pth",
        65.728,
        86.126,
        TF,
        "MobileNetV3('small', width_mult=0.75)",
    ),
    "timm/tf_mobilenetv3_small_100.in1k": _entry(
        "v0.1-weights/tf_mobilenetv3_small_100-37f49e2b.pth", 67.918, 87.674, TF, "MobileNetV3('small')"
    ),
    "timm/tf_mobilenetv3_small_minimal_100.in1k": _entry(
        "v0.1-weights/tf_mobilenetv3_small_minimal_100-922a7843.pth",
        62.890,
        84.240,
        TF,
        "MobileNetV3('small', minimalistic=True)",
    ),
}
