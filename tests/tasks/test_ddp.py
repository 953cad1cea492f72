import json
import subprocess
import sys
from pathlib import Path

import pytest


def test_two_processes_give_the_figures_of_one(shapes: Path, tmp_path: Path) -> None:
    figures = []
    for devices in (1, 2):
        output = tmp_path / f"{devices}.json"
        script = str(Path(__file__).with_name("ddp_script.py"))
        command = [sys.executable, script, str(shapes), str(devices), str(output)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        figures.append(json.loads(output.read_text()))
    assert figures[1] == figures[0]  # 5 images: the second process pads with one that the first has seen
    assert figures[0]["AP"] == pytest.approx(0.5, abs=0.35)
