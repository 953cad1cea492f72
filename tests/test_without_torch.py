"""What the README says about a device: a fresh environment without torch, and the published models in it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mbdet
from mbdet.cli import main

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[1]
CONFIGS = {
    "ssdlite": (REPOSITORY / "configs/ssdlite_v2_300_tf_coco.yaml", "ssdlite_mobilenet_v2_coco.npz"),
    "deeplab": (REPOSITORY / "configs/deeplabv3_v2_tf_coco_voc.yaml", "deeplabv3_mnv2_pascal_trainval.npz"),
}
COUNT = 20  # pictures
BARE = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # nothing of this environment

PREDICT = """
import sys
import time

start = time.perf_counter()
import numpy as np
import mbdet

model, output, *pictures = sys.argv[1:]
predictor = mbdet.load(model)
assert not {"torch", "rich", "cv2"} & set(sys.modules)
first = predictor(pictures[0])
print(f"import, load and first result: {time.perf_counter() - start:.2f} s")
found = [first, *(predictor(path) for path in pictures[1:])]
np.savez(output, **{f"{index}_{name}": value for index, one in enumerate(found) for name, value in one._asdict().items()
                    if value is not None})
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment made as the README says."""
    folder = tmp_path_factory.mktemp("device") / "env"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    pip = [str(python), "-m", "pip", "install", "-q"]
    subprocess.run([*pip, "numpy", "pillow", "rich", "onnxruntime", "pycocotools"], check=True)
    subprocess.run([*pip, "--no-deps", str(REPOSITORY)], check=True)
    listed = subprocess.run([str(python), "-m", "pip", "list"], capture_output=True, text=True, check=True).stdout
    assert "torch" not in listed
    return python


@pytest.fixture(scope="module")
def exported(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("exported")
    for name, (config, weights) in CONFIGS.items():
        command = ["export", str(config), "--weights", str(real_data / "weights" / weights), "--format", "onnx"]
        images = ["--images", str(real_data / "coco" / "val2017")]
        assert main([*command, "--output", str(folder / f"{name}.onnx"), *images]) == 0
    return {name: folder / f"{name}.onnx" for name in CONFIGS}


@pytest.mark.parametrize("name", CONFIGS)
def test_pictures_of_any_size_show_what_the_checkpoint_finds(
    name: str, python: Path, exported: dict[str, Path], real_data: Path, tmp_path: Path
) -> None:
    pictures = sorted((real_data / "coco" / "val2017").iterdir())[:COUNT]
    output = tmp_path / "found.npz"
    command = [str(python), "-c", PREDICT, str(exported[name]), str(output), *map(str, pictures)]
    print(name, subprocess.run(command, check=True, env=BARE, stdout=subprocess.PIPE, text=True).stdout)
    config, weights = CONFIGS[name]
    predictor = mbdet.load(config, real_data / "weights" / weights)
    objects, different, pixels = 0, 0, 0
    with np.load(output) as found:
        for index, picture in enumerate(pictures):
            expected = predictor(picture)
            if name == "ssdlite":
                np.testing.assert_array_equal(found[f"{index}_labels"], expected.labels)
                np.testing.assert_allclose(found[f"{index}_boxes"], expected.boxes, atol=0.01)
                np.testing.assert_allclose(found[f"{index}_scores"], expected.scores, atol=1e-4)
                objects += len(expected.labels)
            else:
                different += int((found[f"{index}_classes"] != expected.classes).sum())
                pixels += expected.classes.size
    if name == "ssdlite":
        assert objects > COUNT
    else:
        assert different <= 1e-5 * pixels  # pixels on which two classes score the same
        print(f"{different} of {pixels} pixels differ")


def test_the_score_is_that_of_the_checkpoint(
    python: Path, exported: dict[str, Path], real_data: Path, tmp_path: Path
) -> None:
    root, (config, weights) = real_data / "coco", CONFIGS["ssdlite"]
    truth = ["--annotations", str(root / "annotations" / "instances_val2017.json"), "--images", str(root / "val2017")]
    command = [str(python.with_name("mbdet")), "evaluate", "--weights", str(exported["ssdlite"]), *truth]
    subprocess.run([*command, "--json", str(tmp_path / "device.json")], check=True, env=BARE)
    options = ["--weights", str(real_data / "weights" / weights), "--data.root", str(root), "--data.num_workers", "0"]
    assert main(["evaluate", str(config), *options, "--json", str(tmp_path / "torch.json")]) == 0
    device, torch = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("device", "torch"))
    assert device["images"] == torch["images"]
    assert device["AP"] == pytest.approx(torch["AP"], abs=5e-4)
    assert torch["AP"] == pytest.approx(0.2996, abs=1e-3)
    print(f"AP {device['AP']:.5f} without torch, {torch['AP']:.5f} with it")
