# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Whole restarts of a service without a kernel: good ones, and every way back."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Optional

import pytest

from testing.waiting import PATIENCE_S
from tests.unit.restart.fakes import ALSO, WHERE, FakeGroups, FakeInstances, FakeProber, service
from udpgrm.restart import journal as journals
from udpgrm.restart import machine, statedir, transaction
from udpgrm.restart.journal import Journal, Suspended
from udpgrm.restart.machine import Outcome, Position, Result, Step
from udpgrm.restart.steps import Steps
from udpgrm.restart.transaction import Detached, Requests, rollback_path
from udpgrm.services.definition import Budget, Drain, DrainUntil, Service

OLD, NEW = 4, 5


class World:
    """A service with generation 4 running, and a restart of it."""

    def __init__(self, what: Service, had_old: bool = True) -> None:
        self.service = what
        self.instances = FakeInstances({OLD} if had_old else set())
        self.groups = FakeGroups(what.groups, self.instances, OLD if had_old else 0)
        self.prober = FakeProber()
        self.journal = Journal(statedir.path_of("edge"), "edge", "", 0.0)
        self.saved: list[dict[str, Any]] = []
        self.check_cancelled: Callable[[], None] = lambda: None

    def run(self) -> Position:
        def on_change() -> None:
            self.saved.append(self.journal.to_json())

        steps = Steps(
            self.service,
            self.journal,
            self.instances,
            self.groups,  # type: ignore[arg-type]
            self.prober,
            lambda: self.check_cancelled(),
            on_change,
        )
        self.journal.position = machine.resumed(self.journal.position, steps.facts())
        return transaction.run(self.journal, steps, lambda: self.check_cancelled(), on_change)

    def kill(self) -> None:
        """Load the journal, which is all that a killed process leaves."""
        read = journals.load("edge")
        assert read is not None
        self.journal = read

    @property
    def steps(self) -> list[str]:
        return [record.step.value for record in self.journal.steps]

    @property
    def reason(self) -> str:
        return next(record.reason for record in self.journal.steps if record.reason)


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UDPGRM_STATE_DIR", str(tmp_path))


@pytest.fixture
def world() -> World:
    return World(service())


def rolled_back(world: World) -> bool:
    return (
        world.groups.by_address == {WHERE: OLD, ALSO: OLD}
        and world.instances.running == {OLD}
        and world.journal.position.outcome is Outcome.ROLLED_BACK
    )


def test_a_good_one(world: World) -> None:
    world.groups.flows = [3, 1, 0]
    assert world.run() == Position(Step.STOP, Outcome.FINISHED)
    assert world.instances.running == {NEW}
    assert world.groups.by_address == {WHERE: NEW, ALSO: NEW}
    assert world.steps == [step.value for step in machine.FORWARD]
    assert world.prober.calls == ["canary", "hold", "verify"]
    journal = journals.load("edge")
    assert journal == world.journal
    assert (journal.from_generation, journal.to_generation) == (OLD, NEW)
    assert journal.promotion_window_s is not None and 0 < journal.promotion_window_s < PATIENCE_S
    drain = journal.last(Step.DRAIN)
    assert drain is not None and drain.evidence["drain"]["flows_at_start"] == 3
    # each sample was saved, and the end
    assert [d["progress"]["flows"] for d in world.saved if d["progress"]][:2] == [3, 1]
    assert world.saved[-1]["outcome"] == "finished"


def test_a_first_deployment() -> None:
    world = World(service(), had_old=False)
    assert world.run().outcome is Outcome.FINISHED
    assert (world.journal.from_generation, world.journal.to_generation) == (None, 1)
    assert world.instances.calls == [("start", 1)]
    assert "hold" not in world.prober.calls


def test_a_first_deployment_that_fails() -> None:
    world = World(service(), had_old=False)
    world.prober.fails = "verify"
    assert world.run().outcome is Outcome.ROLLED_BACK
    assert world.instances.running == set()
    assert world.groups.by_address == {WHERE: 0, ALSO: 0}


def test_a_start_that_fails(world: World) -> None:
    world.instances.broken = "start"
    world.run()
    assert rolled_back(world)
    assert world.steps == ["prepare", "start", "stop_new"]
    assert world.reason == "no such program"


def test_a_start_that_fails_and_is_tried_again_by_systemd() -> None:
    """Fail the start of a unit with Restart=, which is active to systemd, but has no cgroup."""
    world = World(service(enrollment="adopted"))
    world.instances.broken = "restarting"
    world.run()
    assert rolled_back(world)
    assert world.reason == "exit code 1"


def test_a_stop_that_ends_the_new_instance_too(world: World) -> None:
    """Fail the stop if an ExecStop= that asks at a shared port ended the new instance too."""

    def stop(generation: int) -> None:
        world.instances.running.clear()

    world.instances.stop = stop  # type: ignore[method-assign]
    assert world.run() == Position(Step.STOP, Outcome.FAILED)
    assert world.reason == f"edge@{NEW}.service has ended as edge@{OLD}.service was stopped; " + (
        f"edge@{NEW}.service: exit code 1"
    )
    # a resume: nothing serves
    assert world.run() == Position(Step.STOP, Outcome.FAILED)
    stopped = world.journal.last(Step.STOP)
    assert stopped is not None
    assert stopped.reason == (
        f"neither edge@{OLD}.service nor edge@{NEW}.service runs: start one of them (systemctl "
        f"start edge@{NEW}.service), then udpgrm restart {world.journal.service} --resume"
    )
    del world.instances.stop
    world.instances.running.add(NEW)
    assert world.run().outcome is Outcome.FINISHED


def test_sockets_that_do_not_come(world: World) -> None:
    world.groups.sockets = 1
    world.run()
    assert rolled_back(world)
    assert world.reason == (
        f"sockets in generation 5 after 0.2 s: 1 of 2 at {WHERE}, 1 of 2 at {ALSO}"
    )


def test_an_instance_that_dies_while_it_is_waited_for(world: World) -> None:
    world.groups.sockets = 1
    living = world.groups.living

    def dies(generation: int) -> dict[str, int]:
        world.instances.running.discard(NEW)
        return living(generation)

    world.groups.living = dies  # type: ignore[method-assign]
    world.run()
    assert world.reason == "edge@5.service has ended; edge@5.service: exit code 1"


@pytest.mark.parametrize("job", ["canary", "hold", "verify"])
def test_probes_that_fail(world: World, job: str) -> None:
    world.prober.fails = job
    world.run()
    assert rolled_back(world)
    assert world.reason == f"{job}: no reply"
    assert (NEW in world.groups.history) == (job == "verify")


def test_dispatch_errors_after_the_promotion(world: World) -> None:
    def verify(old: Optional[int], new: int, evidence: dict[str, Any]) -> None:
        world.groups.wrong["rx_new_flow_working_gen_dispatch_error"] = 2

    world.prober.verify = verify  # type: ignore[method-assign]
    world.run()
    assert rolled_back(world)
    assert "rx_new_flow_working_gen_dispatch_error 2" in world.reason


def test_errors_from_before_do_not_count(world: World) -> None:
    world.groups.wrong["rx_flow_rg_conflict"] = 7
    assert world.run().outcome is Outcome.FINISHED


@pytest.mark.parametrize(
    ("name", "budget"),
    [("tx_flow_crossed", Budget(misdirected=1)), ("dropped", Budget(dropped=1))],
)
def test_the_budget_counts_until_the_stop(name: str, budget: Budget) -> None:
    world = World(service(budget=budget))
    world.groups.flows = [9] * 9
    sample = world.groups.sample

    def spends(generation: int) -> Any:
        world.groups.wrong[name] += 1
        return sample(generation)

    world.groups.sample = spends  # type: ignore[method-assign]
    world.run()
    assert rolled_back(world)
    assert "2 packets" in world.reason and "the budget is 1" in world.reason


@pytest.mark.parametrize(
    ("on_timeout", "outcome", "running"),
    [
        ("stop", Outcome.FINISHED, {NEW}),
        ("keep", Outcome.FINISHED, {OLD, NEW}),
        ("fail", Outcome.FAILED, {OLD, NEW}),
    ],
)
def test_a_drain_that_takes_too_long(on_timeout: Any, outcome: Outcome, running: set[int]) -> None:
    world = World(service(drain=Drain(DrainUntil(0, None), 0.3, on_timeout)))
    world.groups.flows = [9] * 99
    assert world.run().outcome is outcome
    assert world.instances.running == running
    assert world.groups.by_address[WHERE] == NEW
    if outcome is Outcome.FAILED:  # and a resume drains on
        world.kill()
        world.groups.flows = []
        assert world.run().outcome is Outcome.FINISHED


def test_a_new_instance_that_dies_during_the_drain(world: World) -> None:
    world.groups.flows = [9] * 99
    sample = world.groups.sample

    def dies(generation: int) -> Any:
        world.instances.running.discard(NEW)
        return sample(generation)

    world.groups.sample = dies  # type: ignore[method-assign]
    world.run()
    assert rolled_back(world)
    assert world.reason == "edge@5.service has ended; edge@5.service: exit code 1"


def test_a_new_instance_that_dies_as_the_old_one_is_to_be_stopped(world: World) -> None:
    def dies() -> None:
        if world.journal.position.step is Step.STOP:
            world.instances.running.discard(NEW)

    world.check_cancelled = dies
    world.run()
    assert rolled_back(world)
    assert world.reason == "edge@5.service has ended; edge@5.service: exit code 1"


def test_an_old_instance_that_dies_while_the_new_one_drains(world: World) -> None:
    world.prober.fails = "verify"
    world.groups.flows = [9] * 2
    sample = world.groups.sample

    def dies(generation: int) -> Any:
        world.instances.running.discard(OLD)
        world.prober.fails = None
        return sample(generation)

    world.groups.sample = dies  # type: ignore[method-assign]
    assert world.run().outcome is Outcome.FINISHED
    drain = world.journal.last(Step.DRAIN_NEW)
    assert drain is not None
    assert drain.reason == "edge@4.service has ended; edge@4.service: exit code 1"


def test_an_instance_of_unknown_state(world: World) -> None:
    world.groups.flows = [9] * 3
    sample = world.groups.sample

    def falls_silent(generation: int) -> Any:
        world.instances.silent = bool(world.groups.flows)
        return sample(generation)

    world.groups.sample = falls_silent  # type: ignore[method-assign]
    assert world.run().outcome is Outcome.FINISHED


def test_suspended_if_the_old_instances_state_is_unknown(world: World) -> None:
    world.prober.fails = "verify"
    verify = world.prober.verify

    def falls_silent(old: Optional[int], new: int, evidence: dict[str, Any]) -> None:
        world.instances.silent = True
        verify(old, new, evidence)

    world.prober.verify = falls_silent  # type: ignore[method-assign]
    with pytest.raises(Suspended, match="no answer"):
        world.run()
    world.kill()
    assert world.journal.position == Position(Step.VERIFY)
    world.instances.silent = False
    world.prober.verify = verify  # type: ignore[method-assign]
    world.run()
    assert rolled_back(world)


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("step", list(machine.FORWARD))
def test_a_journal_that_cannot_be_written(world: World, step: Step) -> None:
    """Leave the restart where it was, and continue when there is room."""
    world.groups.flows = [9] * 2
    with contextlib.ExitStack() as stack:
        full: list[None] = []

        def fills() -> None:
            if world.journal.position.step is step and not full:
                full.append(stack.enter_context(full_disk()))

        world.check_cancelled = fills
        with pytest.raises(Suspended, match=r"edge\.json cannot be written"):
            world.run()
    world.kill()
    assert world.journal.position == Position(step)
    assert world.run().outcome is Outcome.FINISHED
    assert world.groups.history == [NEW] * len(world.groups.history)


def test_an_old_one_that_cannot_be_stopped(world: World) -> None:
    world.instances.broken = "stop"
    assert world.run() == Position(Step.STOP, Outcome.FAILED)
    world.kill()
    world.instances.broken = None
    assert world.run() == Position(Step.STOP, Outcome.FINISHED)


def test_another_process_changes_the_working_generation(world: World) -> None:
    def verify(old: Optional[int], new: int, evidence: dict[str, Any]) -> None:
        world.groups.by_address[WHERE] = 17
        world.prober._do("verify")

    world.prober.verify = verify  # type: ignore[method-assign]
    world.prober.fails = "verify"
    world.run()
    # the restart leaves a group alone that another command has changed
    assert world.groups.by_address == {WHERE: 17, ALSO: OLD}


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("step", list(machine.FORWARD))
@pytest.mark.parametrize("after", [False, True])
def test_killed_at_every_step(world: World, step: Step, after: bool) -> None:
    """Resume from a step that was announced only, or that was done but not recorded."""
    perform, killed = Steps.perform, [False]

    def dies(self: Steps, at: Step, evidence: dict[str, Any]) -> Result:
        if at is step and not killed[0] and not after:
            killed[0] = True
            raise Killed
        result = perform(self, at, evidence)
        if at is step and not killed[0]:
            killed[0] = True
            raise Killed
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Steps, "perform", dies)
        with pytest.raises(Killed):
            world.run()
        world.kill()
        assert world.run().outcome is Outcome.FINISHED
    assert world.instances.running == {NEW}
    assert world.groups.by_address == {WHERE: NEW, ALSO: NEW}
    assert world.journal.to_generation == NEW


@pytest.mark.parametrize("step", [Step.ENROLL, Step.CANARY, Step.PROMOTE, Step.VERIFY, Step.DRAIN])
def test_killed_and_the_new_instance_with_it(world: World, step: Step) -> None:
    def check_cancelled() -> None:
        if world.journal.position.step is step:
            raise Killed

    world.check_cancelled = check_cancelled
    with pytest.raises(Killed):
        world.run()
    world.kill()
    world.check_cancelled = lambda: None
    world.instances.running.discard(NEW)
    world.run()
    assert rolled_back(world)


@pytest.fixture
def requests(world: World) -> Iterator[Requests]:
    requests = Requests(world.journal)
    world.check_cancelled = requests.check_cancelled
    with requests.consumed():
        yield requests


def at(world: World, step: Step, do: Callable[[], None]) -> None:
    """Do something when a step begins."""
    check_cancelled = world.check_cancelled

    def looks() -> None:
        if world.journal.position.step is step:
            do()
        check_cancelled()

    world.check_cancelled = looks


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [Step.START, Step.ENROLL, Step.CANARY])
def test_a_signal_before_promote(
    world: World, requests: Requests, step: Step, number: signal.Signals
) -> None:
    at(world, step, lambda: os.kill(os.getpid(), number))
    world.run()
    assert rolled_back(world)
    assert world.reason == f"interrupted by {number.name}"
    assert world.groups.history == []


def test_a_signal_after_promote_leaves_the_drain(world: World, requests: Requests) -> None:
    at(world, Step.PROMOTE, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Detached):
        world.run()
    left = journals.load("edge")
    assert left is not None and left.detached
    assert left.position == Position(Step.DRAIN)
    world.kill()
    world.check_cancelled = lambda: None
    assert world.run().outcome is Outcome.FINISHED
    assert not world.journal.detached


@pytest.mark.parametrize("step", [Step.START, Step.VERIFY, Step.DRAIN])
def test_rollback_is_asked_for(world: World, requests: Requests, step: Step) -> None:
    at(world, step, rollback_path("edge").touch)
    world.run()
    assert rolled_back(world)
    assert world.reason == "asked for by udpgrm rollback"


def test_rollback_comes_too_late(world: World, requests: Requests) -> None:
    at(world, Step.STOP, rollback_path("edge").touch)
    assert world.run().outcome is Outcome.FINISHED


def test_the_new_ones_flows_drain_after_a_rollback(world: World) -> None:
    world.prober.fails = "verify"
    world.groups.flows = [2, 1, 0]
    world.run()
    assert world.steps[-3:] == ["demote", "drain_new", "stop_new"]
    drained = world.journal.last(Step.DRAIN_NEW)
    assert drained is not None and drained.evidence["drained"] is True
