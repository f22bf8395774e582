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
from tests.simulation.host import SimulatedHost
from tests.simulation.kernel import SimulatedGroups
from tests.simulation.schedules import At, Config, Fault, Schedule, Server
from udpgrm.restart import draining, machine, steering, succession
from udpgrm.restart.drain import Decision
from udpgrm.restart.groups import Groups
from udpgrm.restart.host import Host
from udpgrm.restart.machine import Result
from udpgrm.restart.steps import Steps

SCHEDULES = 300
SEED = 18
GOOD = Server.GOOD


def one(config: Config, *faults: tuple[str, str, str, int], seed: int = 0) -> Schedule:
    """Return a schedule of (fault, step, call, number)."""
    given = tuple(Fault(kind, At(step, call, number)) for kind, step, call, number in faults)
    return Schedule(config, given, seed)


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


SHORT = Config(servers=(GOOD, GOOD, Server.SHORT), every_s=60.0)
#: Its drains run out of time.
KEEPS = Config(on_timeout="keep", max_s=1.0, every_s=0.1)
HOLDS = Config(hold_s=4.0, flows=2, max_s=20.0)
#: Each violated an invariant, until restarts were changed.
FOUND = {
    "an empty journal after a power cut": one(
        Config(every_s=0.1), ("reboot", "drain", "sleep", 1), seed=4
    ),
    "resumed in stop, the new instance is dead": one(SHORT, ("kill", "stop", "systemctl stop", 1)),
    "kept, but active again": one(KEEPS, ("operator promotes old", "drain", "delete", 2)),
    "a rollback that was undone by hand keeps both": one(
        Config(on_timeout="keep", max_s=1.0),
        ("full disk", "promote", "held", 1),
        ("operator promotes old", "verify", "delete", 1),
        ("operator promotes new", "drain_new", "working", 1),
        seed=202,
    ),
    "the new one is stopped as the old one is kept": one(
        Config(on_timeout="keep", max_s=1.0),
        ("operator restarts", "promote", "systemctl", 1),
        ("operator stops new", "drain", "facts", 1),
        seed=202,
    ),
    "promoted by hand, and then the canary fails": one(
        Config(servers=(GOOD, GOOD, Server.MUTE)), ("operator promotes new", "canary", "sync", 1)
    ),
    "promoted by hand, and dead before the canary": one(
        Config(servers=(GOOD, Server.MUTE, Server.SHORT)),
        ("operator promotes new", "canary", "rename", 1),
        ("kill", "canary", "probe", 1),
        seed=5717639,
    ),
    "the old one was active for a while before its stop": one(
        Config(), ("operator promotes old", "drain", "exists", 1), seed=18
    ),
    "the new one was active for a while before its stop": one(
        Config(servers=(GOOD, GOOD, Server.FADES)),
        ("operator promotes new", "drain_new", "write", 1),
        seed=18,
    ),
    "the new one is made active as it is stopped": one(
        Config(servers=(GOOD, GOOD, Server.FEW_SOCKETS)),
        ("operator promotes new", "stop_new", "read", 1),
        seed=21,
    ),
    "the old one has crashed, and systemd starts it again": one(
        Config(restarts=True), ("crash of new", "", "flock", 1), seed=18
    ),
    "active again, and an earlier restart is to stop it": one(
        Config(every_s=0.1),
        ("operator restarts", "drain", "sleep", 2),
        ("operator promotes old", "drain", "open", 1),
        seed=18,
    ),
    "active again, the next restart is refused, and then it is stopped": one(
        Config(every_s=0.1),
        ("operator restarts", "drain", "sleep", 2),
        ("operator promotes old", "drain", "facts", 1),
        ("operator stops old", "drain", "write", 10),
        seed=202,
    ),
    "the new one is stopped before the next restart has begun": one(
        Config(every_s=0.1),
        ("operator restarts", "drain", "sleep", 2),
        ("operator stops new", "drain", "delete", 5),
        seed=202,
    ),
    "the last restart waits for a decision, and what drains serves meanwhile": one(
        Config(every_s=0.1),
        ("operator restarts", "drain", "sleep", 2),
        ("crash of old", "canary", "exists", 3),
        ("operator rolls back", "canary", "write", 4),
        seed=202,
    ),
    "the last restart is interrupted and can go back, so what drains does not serve": one(
        Config(every_s=0.1),
        ("operator restarts", "drain", "sleep", 2),
        ("signal", "verify", "probe", 3),
        ("operator stops new", "verify", "write", 4),
        seed=515,
    ),
    "promoted by hand and never ready, and the old one is dead": one(
        Config(servers=(GOOD, GOOD, Server.NEVER_READY)),
        ("operator promotes new", "start", "poll", 40),
        ("crash of old", "start", "read", 4),
        seed=515,
    ),
    "both are dead as the last restart is resumed, and what drains serves again": one(
        Config(every_s=0.1),
        ("operator restarts", "drain", "sleep", 2),
        ("operator stops new", "canary", "delete", 4),
        ("operator stops old", "promote", "delete", 6),
        ("signal", "verify", "exists", 2),
        seed=77,
    ),
    "made active by hand and dead, so that a rollback is refused": one(
        Config(on_timeout="fail", max_s=1.0, every_s=0.1),
        ("operator promotes old", "drain", "read", 10),
        ("operator stops old", "drain", "systemctl", 11),
        seed=4077,
    ),
    "the new one is made active while systemd does not answer, before its stop": one(
        Config(servers=(GOOD, GOOD, Server.FADES)),
        ("silent systemd", "stop_new", "fsync", 1),
        ("operator promotes new", "stop_new", "systemctl", 39),
        seed=4077,
    ),
    "the only one crashes, and systemd starts it again after its demotion": one(
        Config(servers=(GOOD, Server.SHORT, GOOD), restarts=True),
        ("crash of new", "verify", "working", 1),
        ("operator restarts", "demote", "rename", 2),
        seed=4077,
    ),
    "the old one is made active while systemd does not answer, before its stop": one(
        Config(restarts=True),
        ("silent systemd", "promote", "setsockopt", 1),
        ("operator promotes old", "stop", "systemctl", 53),
        seed=909,
    ),
    "the old one is active until its drain's time is over": one(
        Config(),
        ("operator promotes old", "drain", "sync", 1),
        ("operator promotes new", "stop", "delete", 1),
        seed=909,
    ),
    "the old one is active for a while between a stop that fails and its resume": one(
        Config(restarts=True),
        ("silent systemd", "drain", "write", 1),
        ("operator promotes old", "stop", "rename", 2),
        seed=909,
    ),
    "the old one is active for a while as it is held": one(
        HOLDS,
        ("operator promotes old", "drain", "sleep", 2),
        ("operator promotes new", "drain", "sleep", 11),
    ),
    "the old one is made active as it is stopped": one(
        Config(), ("operator promotes old", "stop", "read", 1)
    ),
    "stop fails for ever, as the new one is dead": one(
        SHORT, ("operator promotes old", "stop", "create", 1)
    ),
    "the old one is being started again as flows are to go back to it": one(
        Config(restarts=True), ("crash of old", "promote", "setsockopt", 2)
    ),
    "nothing serves, and clients knock between reading and promotion": one(
        Config(servers=(GOOD, GOOD, Server.NO_SOCKETS)),
        ("crash of old", "", "read", 1),
        seed=1020507360,
    ),
}


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


#: A mistake in the product, the schedule that must find it, a part of the violation's message.
MISTAKES: dict[str, tuple[object, str, Callable[..., Any], Schedule, str]] = {
    "stop without a drain": (Steps, "_watch", _no_drain, one(Config()), "flows after"),
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
        FOUND["the old one is active for a while between a stop that fails and its resume"],
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
        FOUND["the new one is stopped before the next restart has begun"],
        "it could serve",
    ),
    "stop of what is active": (
        steering,
        "serves",
        lambda *_: False,
        one(
            Config(),
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
