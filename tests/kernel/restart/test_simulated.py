# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Restarts that are killed take the same steps here as in the simulation (tests/simulation)."""

from __future__ import annotations

import pytest

from tests.kernel.restart.test_kill import kill_at
from tests.kernel.restarts import Edge, Traffic, serving_only
from tests.simulation import schedules
from tests.simulation.schedules import At, Config, Fault, Schedule
from udpgrm.restart import machine

pytest_plugins = ("tests.kernel.restart_fixtures",)
pytestmark = pytest.mark.daemon("shared")

#: The service of restart_fixtures.py: it drains as long as there are flows.
CONFIG = Config(on_timeout="fail", max_s=600.0, groups=1, every_s=60.0)


@pytest.mark.parametrize("step", [step.value for step in machine.FORWARD])
def test_killed(serving: Edge, step: str) -> None:
    with Traffic(1, keep=step != "stop"):
        kill_at(serving, step)
    assert serving.restart("--resume").returncode == 0
    assert serving_only(serving, 2)
    real = [(done["step"], done["result"]) for done in serving.journal()["steps"]]
    killed_in = [name for name, result in real if result is None]  # announced, not ended
    if not killed_in:  # between two steps
        assert real == [(each.value, "done") for each in machine.FORWARD]
        return
    report = schedules.run(Schedule(CONFIG, (Fault("kill", At(killed_in[0], "sync", 2)),)))
    assert (len(killed_in), len(report.reached)) == (1, 1)
    assert (report.steps, report.violations) == (real, [])
