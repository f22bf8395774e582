# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The short form of the simulation of restarts, and the schedules that once found a fault."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import udpgrm.client as grm
from testing import contract
from tests.simulation import explore, schedules
from tests.simulation.found import FOUND, GOOD, KEEPS, SHORT, one
from tests.simulation.host import SimulatedHost
from tests.simulation.kernel import SimulatedGroups
from tests.simulation.schedules import At, Config, Fault, Schedule, Server
from udpgrm.restart import draining, facts, machine, notice, plan, steering, succession
from udpgrm.restart.drain import Decision, Sample, Watcher
from udpgrm.restart.groups import Groups
from udpgrm.restart.host import Host
from udpgrm.restart.instances import has_ended
from udpgrm.restart.machine import Result
from udpgrm.restart.steps import Steps
from udpgrm.restart.stopping import Stopping

SCHEDULES = 300
SEED = 18
QUIET_S = 1.5


def test_the_short_form() -> None:
    done = explore.explore(SCHEDULES, SEED)
    assert done.failures == []
    assert done.schedules == SCHEDULES
    steps = {step for step, _ in done.pairs}
    assert steps >= {step.value for step in machine.FORWARD}
    assert {kind for _, kind in done.pairs} == set(schedules.FAULTS)
    assert done.all_singles > done.singles > SCHEDULES / 2
    assert done.outcomes["finished in stop"] and done.outcomes["rolled_back in stop_new"]


def test_nothing_goes_wrong() -> None:
    report = schedules.run(Schedule())
    assert report.violations == []
    assert report.steps == [(step.value, "done") for step in machine.FORWARD]


def test_it_is_the_same_every_time() -> None:
    schedule = one(Config(), ("operator restarts", "drain", "read", 1), seed=4)
    first, second = schedules.run(schedule), schedules.run(schedule)
    assert first.reached == list(schedule.faults)
    assert (first.trace, first.steps) == (second.trace, second.steps)


def test_answers_are_those_of_the_interface() -> None:
    report = schedules.run(one(Config(), ("kill", "verify", "fsync", 1)))
    answers = [line for line in "".join(report.output).splitlines() if line.startswith("{")]
    assert answers
    for answer in answers:
        contract.check(["restart", "edge", "--resume", "--json"], answer)


@pytest.mark.parametrize(("simulated", "real"), [(SimulatedHost, Host), (SimulatedGroups, Groups)])
def test_what_stands_in_is_called_as_the_real_one(simulated: type, real: type) -> None:
    own = {name: value for name, value in vars(simulated).items() if not name.startswith("_")}
    for name, value in own.items():
        if inspect.isfunction(value):
            mine, theirs = inspect.signature(value), inspect.signature(getattr(real, name))
            assert list(mine.parameters) == list(theirs.parameters), name
    missing = {name for name in vars(real) if not name.startswith("_")} - set(own)
    assert real is Groups or not missing


@pytest.mark.parametrize("name", FOUND)
def test_found(name: str) -> None:
    report = schedules.run(FOUND[name])
    assert report.reached[:1] == list(FOUND[name].faults[:1])
    assert report.violations == []


def test_a_refused_rollback_names_what_continues() -> None:
    report = schedules.run(FOUND["made active by hand and dead, so that a rollback is refused"])
    message = "edge: generation 1 does not live: udpgrm restart edge --resume"
    assert message in "".join(report.output)


@pytest.mark.parametrize("kind", ["operator promotes old", "operator stops new", "crash of new"])
def test_something_changes_as_an_instance_is_kept(kind: str) -> None:
    base = Schedule(KEEPS, seed=4, again=False)
    trace = schedules.run(base).trace
    last = max(index for index, call in enumerate(trace) if call[1] == "sample")
    outcomes = set()
    for call in trace[last:]:
        report = schedules.run(replace(base, faults=(Fault(kind, At(*call)),)))
        assert report.violations == [], call
        outcomes.add(report.outcome.split()[0])
    assert outcomes == {"rolled_back", "finished"}  # before and after the last look


def _no_drain(self: Steps, generation: int, evidence: Any, watch: Any) -> Decision:
    return Decision.DRAINED


def _drains_blindly(self: Steps, evidence: Any) -> None:
    for _ in range(100):
        self._wait(0.3)


def _promotes_early(self: Steps, evidence: Any) -> None:
    """Promote an instance before it has sockets."""
    old, new = self._journal.from_generation, self._journal.to_generation
    assert old is not None and new is not None
    with self._groups.held(old, self._instances.processes(old)) as sockets:
        for sock in sockets.values():
            grm.promote(sock, new)


def _looks_too_early(self: Steps, generation: int, evidence: Any, watch: Any) -> Result:
    """Look at what is active before the journal has that the instance is kept."""
    watch()
    if steering.serves(self._groups, generation):
        return Result.STUCK
    evidence["kept"] = self._instances.name(generation)
    self._journal.save()
    return Result.KEPT


def _counts_flows_only(self: Watcher, sample: Sample) -> bool:
    return not sample.flows


def _looks_at_quiet_only(self: Watcher, sample: Sample) -> bool:
    return sample.quiet_s is None or sample.quiet_s >= QUIET_S


def _notifies_at_once(self: Steps, generation: int, evidence: Any) -> bool:
    begin = self._service.drain.begin
    assert begin is not None and not has_ended(self._instances, generation)
    notice.report(begin, self._instances, generation, self._journal, evidence)
    return True


#: A mistake in the product, the schedule that must find it, a part of the violation's message.
MISTAKES: dict[str, tuple[object, str, Callable[..., Any], Schedule, str]] = {
    "stop without a drain": (Steps, "_watch", _no_drain, one(Config()), "flows after"),
    "no wait for quiet": (
        Watcher,
        "_is_drained",
        _counts_flows_only,
        one(Config(quiet_s=QUIET_S, max_s=20.0)),
        "0 flows after",
    ),
    "no look at connected sockets, which are never quiet": (
        Watcher,
        "_is_drained",
        _looks_at_quiet_only,
        one(Config(quiet_s=QUIET_S, max_s=20.0, connects=True, flows=9)),
        "flows after",
    ),
    "a notice to what is active": (
        Steps,
        "_notify",
        _notifies_at_once,
        FOUND["the old one is made active as systemd is asked before its notice"],
        "is told to drain: it is active",
    ),
    "promotion of what has no socket yet": (
        Steps,
        "_enroll",
        _promotes_early,
        one(Config(servers=(GOOD, GOOD, Server.SLOW))),
        "go to dead generation 2",
    ),
    "no look at what is dead": (
        machine,
        "is_lost",
        lambda *_: False,
        one(SHORT, ("kill", "stop", "systemctl stop", 1)),
        "cannot be ended",
    ),
    "no look at what has been active as a stop is resumed": (
        draining,
        "is_undrained",
        lambda *_: False,
        FOUND["the new one is made active as it is stopped"],
        "flows after",
    ),
    "no look at what has been active before a start fails": (
        steering,
        "was_early",
        lambda *_: False,
        FOUND["the new one is active for a while before its start fails"],
        "flows after",
    ),
    "no look at what has been active while it was held": (
        draining,
        "has_drained",
        lambda *_: True,
        FOUND["the old one is active for a while as it is held"],
        "flows after",
    ),
    "no look at what has died": (
        Steps,
        "_drain",
        _drains_blindly,
        one(Config(servers=(GOOD, GOOD, Server.SHORT))),
        "go to a dead generation since",
    ),
    "keeping what has just become active": (
        Steps,
        "_keep",
        _looks_too_early,
        one(KEEPS, ("operator promotes old", "drain", "write", 6), seed=4),
        "[2] run, active is {1}",
    ),
    "no look at what is left to serve": (
        succession,
        "_is_alone",
        lambda *_: False,
        FOUND["the last restart waits for a decision, and what drains serves meanwhile"],
        "it could serve",
    ),
    "stop of the last one with sockets": (
        steering,
        "is_last",
        lambda *_: False,
        FOUND["the old one dies, and a signal ends the canary"],
        "no other instance lives",
    ),
    "no look at what packets the new one got before it was promoted": (
        facts,
        "_has_strayed",
        lambda *_: False,
        FOUND["the old one is started again, and the new one has got flows meanwhile"],
        "flows after",
    ),
    "no look at what has been active while systemd was silent": (
        Stopping,
        "has_flows_again",
        lambda *_: False,
        FOUND["the old one is made active for a while as a stop waits for systemd"],
        "flows after",
    ),
    "a restart of addresses that are divided": (
        plan,
        "_refuse_divided",
        lambda *_: None,
        FOUND["addresses are divided by hand as the new one is kept"],
        "it is not refused",
    ),
    "stop of what is active": (
        steering,
        "serves",
        lambda *_: False,
        one(
            Config(every_s=60.0),
            ("slow systemd", "stop", "systemctl", 1),
            ("operator promotes old", "stop", "systemctl waits", 1),
            seed=1,
        ),
        "it is active",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_found(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, wrong, schedule, message = MISTAKES[mistake]
    assert schedules.run(schedule).violations == []
    monkeypatch.setattr(owner, name, wrong)
    violations = schedules.run(schedule).violations
    assert any(message in violation for violation in violations), violations
