import time

import pytest

from mbdet.demo.stages import Stages


def test_medians_and_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    stages = Stages(["read", "draw"])
    assert stages.report().rate == 0
    for read in (0.1, 0.2, 0.3, 0.6):
        for name, seconds in (("read", read), ("draw", 0.2)):
            with stages.time(name):
                now[0] += seconds
        stages.end()
    report = stages.report()
    assert report.pictures == 4
    assert report.medians == pytest.approx({"read": 250, "draw": 200})
    assert report.rate == pytest.approx(3 / (0.4 + 0.5 + 0.8))
    assert stages.report(2).medians == pytest.approx({"read": 450, "draw": 200})
    assert stages.report(2).rate == pytest.approx(1 / 0.8)
    assert stages.report(2).words() == ["1.3 fps", "read 450.0 ms", "draw 200.0 ms"]
