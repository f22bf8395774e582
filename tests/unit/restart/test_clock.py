# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Test the decisions of a restart by time, while the host's clock is set."""

from __future__ import annotations

from typing import Any, Optional

import pytest

from tests.unit.restart.fakes import service
from tests.unit.restart.test_transaction import NEW, World, rolled_back
from udpgrm.restart import hold, host
from udpgrm.restart import journal as journals
from udpgrm.restart.journal import Record
from udpgrm.restart.machine import Outcome, Step
from udpgrm.services.definition import Drain, DrainUntil

DAY_S = 86_400.0


class Clock(host.Host):
    """A host whose time passes only while it is waited for."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.offset = 1_800_000_000.0

    def time(self) -> float:
        return self.now + self.offset

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setenv("UDPGRM_STATE_DIR", str(tmp_path))
    clock = Clock()
    monkeypatch.setattr(host, "current", clock)
    return clock


@pytest.mark.parametrize("step_s", [DAY_S, -DAY_S])
def test_a_resumed_hold_takes_what_remains(clock: Clock, step_s: float) -> None:
    journal = World(service()).journal
    evidence: dict[str, Any] = {}

    def pause() -> bool:
        clock.sleep(1.0)
        return clock.now < 1020.0  # its process is killed

    hold.keep(60.0, journal, evidence, pause)
    clock.offset += step_s
    hold.keep(60.0, journal, evidence, lambda: pause() or True)
    assert clock.now == 1060.0
    assert evidence["hold"] == {"begun": 1_800_001_000.0, "hold_s": 60.0}


@pytest.mark.usefixtures("clock")
def test_a_hold_is_seen_after_samples_of_the_drain() -> None:
    """Publish the hold, so that no rolling restart waits for an instance that has drained."""
    journal = World(service()).journal
    journal.steps.append(Record(Step.DRAIN, 1.0))
    journal.publish()
    seen: list[bool] = []

    def pause() -> bool:
        other = journals.load("edge")
        assert other is not None
        seen.append("hold" in other.steps[-1].evidence)
        return False

    hold.keep(60.0, journal, journal.steps[-1].evidence, pause)
    assert seen == [True]


@pytest.mark.parametrize("step_s", [DAY_S, 0.0, -DAY_S])
def test_sends_on_flows_of_the_other_instance_are_no_chance(clock: Clock, step_s: float) -> None:
    world = World(service(drain=Drain(DrainUntil(0, None), 9.0, "stop")))
    world.groups.flows = [9] * 99
    sample = world.groups.sample

    def spends(generation: int) -> Any:
        clock.offset += step_s
        world.groups.wrong["tx_flow_crossed"] += 100
        world.groups.wrong["packets"] += 100
        return sample(generation)

    world.groups.sample = spends  # type: ignore[method-assign]
    world.run()
    assert rolled_back(world)
    assert "were sent on flows of the other instance" in world.reason


@pytest.mark.parametrize("step_s", [DAY_S, -DAY_S])
def test_the_window_of_the_promotion(clock: Clock, step_s: float) -> None:
    world = World(service())

    def verify(old: Optional[int], new: int, evidence: dict[str, Any]) -> None:
        clock.sleep(0.25)
        clock.offset += step_s

    world.prober.verify = verify  # type: ignore[method-assign]
    assert world.run().outcome is Outcome.FINISHED
    assert (world.groups.working(), world.journal.promotion_window_s) == (
        dict.fromkeys(world.groups.by_address, NEW),
        0.25,
    )
