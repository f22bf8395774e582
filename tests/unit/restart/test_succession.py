# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""A drain that the next restart was to supersede, and the instance that is left to serve."""

from __future__ import annotations

from typing import Optional

import pytest

from tests.unit.restart.fakes import ALSO, WHERE, service
from tests.unit.restart.test_transaction import NEW, OLD, World, rolled_back
from udpgrm.restart import journal as journals
from udpgrm.restart import lock, machine
from udpgrm.restart.journal import Journal
from udpgrm.restart.machine import Facts, Outcome, Position, Result, Step
from udpgrm.restart.statedir import path_of
from udpgrm.restart.transaction import Superseded

NEXT = 6


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("UDPGRM_STATE_DIR", str(tmp_path_factory.mktemp("state")))
    return World(service())


def supersede(world: World) -> None:
    """Let a restart drain until the next one takes its name."""

    def check_cancelled() -> None:
        if world.journal.position.step is Step.DRAIN:
            raise Superseded

    world.check_cancelled = check_cancelled
    with pytest.raises(Superseded):
        world.run()
    world.check_cancelled = lambda: None
    world.journal.supersede()


def save_next(position: Position) -> None:
    """Save the journal of the next restart."""
    journal = Journal(path_of("edge"), "edge", "", 1.0, position=position)
    journal.from_generation, journal.to_generation = NEW, NEXT
    journal.save()


def test_it_was_given_up_in_time(world: World) -> None:
    """Drain again if the next restart gave up before it took the drain over."""
    requests = [Superseded()]

    def check_cancelled() -> None:
        if world.journal.position.step is Step.DRAIN and requests:
            raise requests.pop()

    world.check_cancelled = check_cancelled
    assert world.run() == Position(Step.STOP, Outcome.FINISHED)
    assert world.steps.count("drain") == 2
    assert not world.journal.detached


@pytest.mark.parametrize(
    "last",
    [
        None,
        Position(Step.PREPARE, Outcome.ROLLED_BACK),
        Position(Step.STOP_NEW, Outcome.ROLLED_BACK),
        Position(Step.STOP, Outcome.FINISHED),
    ],
)
def test_nothing_else_serves_and_no_restart_runs(world: World, last: Position) -> None:
    supersede(world)
    if last is not None:
        save_next(last)
    if last == Position(Step.STOP, Outcome.FINISHED):
        world.groups.by_address = {WHERE: NEXT, ALSO: NEXT}
    world.instances.running.discard(NEW)
    world.run()
    assert rolled_back(world)
    drain = world.journal.last(Step.DRAIN)
    assert drain is not None and drain.evidence["working"] == {WHERE: OLD, ALSO: OLD}
    assert drain.reason == "no other instance serves: generation 4 is active again"
    assert journals.waiting_for_their_stop("edge") == {}


@pytest.mark.parametrize("outcome", [None, Outcome.FAILED])
def test_the_last_restart_has_to_start_another_one(
    world: World, outcome: Optional[Outcome]
) -> None:
    """Continue the drain once the last restart has made an instance active."""
    supersede(world)
    save_next(Position(Step.PROMOTE, outcome))
    world.instances.running.discard(NEW)
    assert world.run() == Position(Step.DRAIN, Outcome.FAILED)
    assert world.groups.by_address == {WHERE: OLD, ALSO: OLD}
    assert world.reason.endswith("generation 4 is active again (udpgrm restart edge --resume)")
    world.instances.running.add(NEXT)
    world.groups.by_address = {WHERE: NEXT, ALSO: NEXT}
    assert world.run() == Position(Step.STOP, Outcome.FINISHED)
    assert world.instances.running == {NEXT}


@pytest.mark.parametrize("outcome", [None, Outcome.FAILED])
def test_the_last_restart_can_make_another_one_active(
    world: World, outcome: Optional[Outcome]
) -> None:
    supersede(world)
    save_next(Position(Step.PROMOTE, outcome))
    world.instances.running ^= {NEW, NEXT}
    assert world.run() == Position(Step.STOP, Outcome.FAILED)
    assert world.groups.by_address == {WHERE: NEW, ALSO: NEW}
    assert world.reason.endswith("the last restart is resumed (udpgrm restart edge --resume)")
    world.groups.by_address = {WHERE: NEXT, ALSO: NEXT}
    assert world.run() == Position(Step.STOP, Outcome.FINISHED)
    assert world.instances.running == {NEXT}


def test_another_one_serves(world: World) -> None:
    """Run no systemctl(1) with each sample, as dozens of instances may drain."""
    supersede(world)
    world.groups.flows = [9] * 3
    asked: list[Step] = []
    is_alive = world.instances.is_alive

    def asks(generation: int) -> bool:
        asked.append(world.journal.position.step)
        return is_alive(generation)

    world.instances.is_alive = asks  # type: ignore[method-assign]
    assert world.run() == Position(Step.STOP, Outcome.FINISHED)
    assert world.instances.running == {NEW}
    assert asked and set(asked) == {Step.STOP}


def test_an_operator_has_made_the_old_one_active(world: World) -> None:
    """Fail the drain if it is not known which of two instances is to stay."""
    supersede(world)
    world.groups.by_address = {WHERE: OLD, ALSO: OLD}
    assert world.run() == Position(Step.DRAIN, Outcome.FAILED)
    assert world.instances.running == {OLD, NEW}


def test_a_restart_that_runs_is_waited_for(world: World) -> None:
    supersede(world)
    world.instances.running.discard(NEW)
    waited: list[None] = []

    def starts_another() -> None:
        if world.journal.position.step is Step.STOP and OLD in world.instances.running:
            waited.append(None)
            if len(waited) == 3:
                world.instances.running.add(NEXT)
                world.groups.by_address = {WHERE: NEXT, ALSO: NEXT}

    world.check_cancelled = starts_another
    with lock.locked("edge"):
        assert world.run() == Position(Step.STOP, Outcome.FINISHED)
    assert len(waited) == 3
    assert world.instances.running == {NEXT}


def test_an_unknown_state_is_no_end(world: World) -> None:
    """Resume and continue a drain while systemd does not answer."""
    supersede(world)
    world.groups.flows = [9] * 3
    world.instances.silent = True
    sample = world.groups.sample

    def falls_silent(generation: int) -> object:
        world.instances.silent = bool(world.groups.flows)
        return sample(generation)

    world.groups.sample = falls_silent  # type: ignore[assignment,method-assign]
    assert world.run() == Position(Step.STOP, Outcome.FINISHED)


def test_files_of_what_was_rolled_back(world: World) -> None:
    supersede(world)
    world.journal.position = Position(Step.DRAIN, Outcome.ROLLED_BACK)
    world.journal.save()
    assert [item.name for item in journals.superseded("edge")] == ["edge@4"]
    save_next(Position(Step.DRAIN))
    last = journals.load("edge")
    assert last is not None
    last.supersede()
    assert [item.name for item in journals.superseded("edge")] == ["edge@5"]


@pytest.mark.parametrize("step", [Step.DRAIN, Step.STOP])
def test_the_outcome(step: Step) -> None:
    facts = Facts(had_old=True, old_alive=True, new_alive=False, superseded=True, reclaimed=True)
    ended = machine.after(step, Result.FAILED, lambda: facts)
    assert ended == Position(step, Outcome.ROLLED_BACK)
