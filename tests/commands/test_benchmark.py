import json
from pathlib import Path

import numpy as np
import pytest

from mbdet.cli import main
from mbdet.commands.benchmark import first_to_others

CONFIGS = Path(__file__).parents[2] / "configs"


def test_networks_are_timed_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"{name}_v2_shapes" for name in ("multitask", "ssdlite", "lraspp")]
    configs = [str(CONFIGS / f"{name}.yaml") for name in names]
    options = ["--rounds=2", "--device=cpu", "--json", str(tmp_path / "times.json")]
    assert main(["benchmark", *configs, *options]) == 0
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines()[:4]] == ["config", *names]
    assert f"of the time of {names[1]} and {names[2]}, one after the other" in printed
    times = json.loads((tmp_path / "times.json").read_text())
    assert (times["threads"], times["batch"]) == (1, 1)
    assert {name: len(seconds) for name, seconds in times["seconds"].items()} == dict.fromkeys(names, 2)
    assert main(["benchmark", configs[0], "--rounds=1", "--device=cpu"]) == 0
    assert "one after the other" not in capsys.readouterr().out
    assert main(["benchmark", configs[0], "--rounds=0"]) == 2


def test_the_first_is_compared_with_the_sum_of_the_others() -> None:
    np.testing.assert_allclose(first_to_others(np.array([[1.0, 3.0], [1.0, 2.0], [3.0, 2.0]])), [0.25, 0.75])
    assert first_to_others(np.array([[1.0, 3.0]])) is None
