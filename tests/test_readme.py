"""Every command of the README runs, in the order in which a reader meets it."""

import re
import shlex
from pathlib import Path

import pytest

import mbdet
from mbdet.cli import main
from mbdet.data.shapes import make_shapes

REPOSITORY = Path(__file__).parents[1]
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
COMMANDS = [line for language, block in BLOCKS if language == "bash" for line in block.strip().splitlines()]

# What makes a command quick enough for a test, without changing what it does.
QUICK = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu", "--data.num_workers=0"]
NARROW = "--model.network.backbone.width_mult=0.35"
QUICK_SHAPES = [NARROW, "--data.num_train=8", "--data.num_val=5", "--data.batch_size=2"]


SIZE = "[64,64]"
QUICK_CLASSES = [
    NARROW,
    "--model.network.num_classes=3",
    f"--model.network.input_size={SIZE}",
    f"--data.input_size={SIZE}",
]


def overrides(command: str, arguments: list[str]) -> list[str]:
    if command == "benchmark" and arguments[0] == "formats":
        return ["--precisions=fp32", "--formats=onnx", "--rounds=1", "--threads=1", NARROW, *QUICK_SHAPES]
    if command == "benchmark":
        return ["--rounds=1"]
    if command == "sensitivity":
        return ["--images=2", NARROW]
    if "int8" in arguments:  # after so few steps, any rounding in these layers changes all scores
        return [NARROW, "--keep_float", "extras", "box_heads", "class_heads"]
    if any("multitask" in argument for argument in arguments) and command != "predict":
        # After so few steps: scores that are worth comparing,
        # and maps that show one class alone are verified by their probabilities.
        extra = ["--probabilities"] if command == "export" else []
        return ["--model.network.detector.class_bias_init=0", *extra, *overrides(command, [])]
    if any("classify" in argument for argument in arguments):
        return [
            *QUICK_CLASSES,
            *([*QUICK, "--trainer.max_epochs=1", "--data.batch_size=4"] if command == "train" else []),
        ]
    if command == "train" and "--print_config" not in arguments:
        # Scores that are worth comparing after so few steps, in 8 bits too.
        confident = ["--model.network.class_bias_init=0"] if arguments == ["configs/ssdlite_v2_shapes.yaml"] else []
        on_coco = any("coco" in argument for argument in arguments)
        epochs = "--trainer.max_epochs=5" if "--resume" in arguments else f"--trainer.max_epochs={1 if on_coco else 4}"
        return [
            *QUICK,
            *confident,
            epochs,
            f"--trainer.check_val_every_n_epoch={1 if on_coco else 4}",
            *(["--data.batch_size=2"] if on_coco else QUICK_SHAPES),
        ]
    if command == "export":
        return [NARROW]
    of_config = command == "evaluate" and "--annotations" not in arguments
    return QUICK_SHAPES if of_config else []


def test_quick_start_is_two_commands() -> None:
    quick_start = (REPOSITORY / "README.md").read_text().split("## Use")[0]
    assert quick_start.count("```bash") == 2
    assert COMMANDS[0].endswith("python tools/train.py configs/ssdlite_v2_shapes.yaml")
    assert COMMANDS[1] == "pip install -e '.[dev]' && pytest -n 2 --dist loadfile"


def test_commands_and_python(
    tmp_path: Path,
    coco80: Path,
    image_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(REPOSITORY / "configs")
    make_shapes(tmp_path / "data" / "shapes", num_train=8, num_val=5)
    (tmp_path / "data" / "shapes" / "val" / "002001.jpg").symlink_to(
        tmp_path / "data" / "shapes" / "val" / "000009.jpg"
    )
    (tmp_path / "data" / "coco").symlink_to(coco80)
    (tmp_path / "data" / "imagenet").symlink_to(image_folder)
    ran = 0
    for line in COMMANDS:
        words = shlex.split(line.split(" && ")[-1])
        if words[0] != "python":
            continue  # this very run, and what tests/test_without_torch.py runs
        command, arguments = Path(words[1]).stem, words[2:]
        try:
            status = main([command, *arguments, *overrides(command, arguments)])
        except SystemExit as stop:  # --print_config ends the process
            status = int(stop.code or 0)
        assert status == 0, f"{line}\n{capsys.readouterr().err}"
        ran += 1
    assert ran >= 30
    for picture in ("predictions/002001.jpg", "segmented/masks/002001.png", "both/masks/002001.png"):
        assert (tmp_path / picture).exists()
    for language, block in BLOCKS:
        if language == "python":
            found: dict[str, object] = {}
            exec(block, found)
            assert len(found["boxes"]) == len(found["labels"])  # type: ignore[arg-type]
    assert mbdet.load("shapes.onnx").class_names[0] == "circle"
