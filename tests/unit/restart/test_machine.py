# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""End a restart finished or rolled back, in the right order, whatever happens to it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udpgrm.restart import machine
from udpgrm.restart.machine import Facts, Outcome, Position, Result, Step

BOTH = Facts(had_old=True, old_alive=True, new_alive=True)
UNDOING = (Step.DEMOTE, Step.DRAIN_NEW, Step.STOP_NEW)


@dataclass
class World:
    """Instances and working generation, as steps change them."""

    had_old: bool = True
    old: bool = True
    new: bool = False
    working: str = "old"
    done: list[Step] = field(default_factory=list)

    def facts(self) -> Facts:
        return Facts(self.had_old, self.had_old and self.old, self.new)

    def act(self, step: Step) -> None:
        """Do what a step does, at once and as often as it is repeated."""
        if step is Step.START:
            self.new = True
        elif step is Step.PROMOTE:
            assert Step.ENROLL in self.done and Step.CANARY in self.done
            self.working = "new"
        elif step is Step.STOP:
            assert Step.VERIFY in self.done and self.working == "new"
            self.old = False
        elif step is Step.DEMOTE:
            assert self.old or not self.had_old or not self.new
            self.working = "old"
        elif step is Step.STOP_NEW:
            assert self.working == "old"
            self.new = False


#: done, failed, killed before or after the deed, new instance died, rollback asked
happenings = st.lists(
    st.sampled_from(["done", "failed", "killed", "killed after", "died", "cancelled"]),
    max_size=30,
)


@given(happenings, st.booleans())
def test_every_restart_ends(happenings: list[str], had_old: bool) -> None:
    world = World(had_old=had_old)
    position = Position()
    for happening in happenings + ["done"] * 20:
        if position.outcome is Outcome.FAILED:  # a resume tries again
            position = machine.resumed(position, world.facts())
        if position.outcome is not None:
            break
        step = position.step
        if happening == "killed":
            position = machine.resumed(position, world.facts())
        elif happening == "died":
            world.new = False
            position = machine.resumed(position, world.facts())
        elif happening == "killed after":
            world.act(step)
            position = machine.resumed(position, world.facts())
        elif happening == "failed":
            position = machine.after(step, Result.FAILED, world.facts)
        elif happening == "cancelled":
            if machine.may_roll_back(position):
                position = machine.after(step, Result.CANCELLED, world.facts)
        else:
            world.act(step)
            world.done.append(step)
            position = machine.after(step, Result.DONE, world.facts)
    assert position.outcome in (Outcome.FINISHED, Outcome.ROLLED_BACK)
    if position.outcome is Outcome.FINISHED:
        assert world.working == "new" and not (had_old and world.old)
    else:
        assert world.working == "old" and (world.old or not had_old) and not world.new


def test_the_way_of_a_good_restart() -> None:
    position, way = Position(), []
    while position.outcome is None:
        way.append(position.step.value)
        position = machine.after(position.step, Result.DONE, lambda: BOTH)
    assert way == ["prepare", "start", "enroll", "canary", "promote", "verify", "drain", "stop"]
    assert position == Position(Step.STOP, Outcome.FINISHED)


@pytest.mark.parametrize(
    ("step", "to"),
    [
        (Step.PREPARE, Position(Step.PREPARE, Outcome.ROLLED_BACK)),
        (Step.START, Position(Step.STOP_NEW)),
        (Step.ENROLL, Position(Step.STOP_NEW)),
        (Step.CANARY, Position(Step.STOP_NEW)),
        (Step.PROMOTE, Position(Step.DEMOTE)),
        (Step.VERIFY, Position(Step.DEMOTE)),
        (Step.DRAIN, Position(Step.DEMOTE)),
        (Step.STOP, Position(Step.STOP, Outcome.FAILED)),
        (Step.DEMOTE, Position(Step.DEMOTE, Outcome.FAILED)),
        (Step.DRAIN_NEW, Position(Step.STOP_NEW)),
        (Step.STOP_NEW, Position(Step.STOP_NEW, Outcome.FAILED)),
    ],
)
def test_failures(step: Step, to: Position) -> None:
    assert machine.after(step, Result.FAILED, lambda: BOTH) == to


def test_no_rollback_to_a_dead_instance() -> None:
    old_died = Facts(had_old=True, old_alive=False, new_alive=True)
    failed = Position(Step.VERIFY, Outcome.FAILED)
    assert machine.after(Step.VERIFY, Result.FAILED, lambda: old_died) == failed
    both_died = Facts(had_old=True, old_alive=False, new_alive=False)
    assert machine.after(Step.VERIFY, Result.FAILED, lambda: both_died) == Position(Step.DEMOTE)
    first = Facts(had_old=False, old_alive=False, new_alive=True)
    assert machine.after(Step.VERIFY, Result.FAILED, lambda: first) == Position(Step.DEMOTE)


@pytest.mark.parametrize("step", [Step.ENROLL, Step.CANARY])
def test_resume_with_a_dead_new_instance(step: Step) -> None:
    dead = Facts(had_old=True, old_alive=True, new_alive=False)
    assert machine.resumed(Position(step), dead) == Position(Step.STOP_NEW)
    assert machine.resumed(Position(step), BOTH) == Position(step)


def test_resume_after_promotion_with_a_dead_new_instance() -> None:
    dead = Facts(had_old=True, old_alive=True, new_alive=False)
    for step in (Step.PROMOTE, Step.VERIFY, Step.DRAIN, Step.STOP):
        assert machine.resumed(Position(step), dead) == Position(Step.DEMOTE)
    assert machine.after(Step.STOP, Result.FAILED, lambda: dead) == Position(Step.DEMOTE)
    both_dead = Facts(had_old=True, old_alive=False, new_alive=False, new_active=True)
    another_serves = replace(both_dead, new_active=False, another_active=True)
    nothing_is_steered = replace(both_dead, new_active=False)
    for step in (Step.DRAIN, Step.STOP):
        assert machine.resumed(Position(step), both_dead) == Position(step)
        assert machine.resumed(Position(step), nothing_is_steered) == Position(step)
        assert machine.resumed(Position(step), another_serves) == Position(Step.DEMOTE)
        started = replace(another_serves, new_alive=True)
        assert machine.resumed(Position(step), started) == Position(step)
        unserved = replace(started, unserved=True)
        assert machine.resumed(Position(step), unserved) == Position(Step.ENROLL)
        assert machine.resumed(Position(step), replace(unserved, new_active=True)) == Position(step)


@pytest.mark.parametrize("step", [Step.DEMOTE, Step.DRAIN_NEW])
def test_an_old_instance_that_ends_during_a_rollback(step: Step) -> None:
    old_died = Facts(had_old=True, old_alive=False, new_alive=True)
    assert machine.after(step, Result.FAILED, lambda: old_died) == Position(Step.PROMOTE)
    assert machine.resumed(Position(step), old_died) == Position(Step.PROMOTE)
    first = Facts(had_old=False, old_alive=False, new_alive=True)
    assert machine.resumed(Position(step), first) == Position(step)


def test_an_instance_that_was_promoted_early_drains() -> None:
    active = Facts(had_old=True, old_alive=True, new_alive=True, new_active=True)
    for step in (Step.START, Step.ENROLL, Step.CANARY):
        assert machine.after(step, Result.FAILED, lambda: active) == Position(Step.DEMOTE)
    was_active = replace(active, new_active=False, active_early=True)
    for step in (Step.START, Step.ENROLL, Step.CANARY):
        assert machine.after(step, Result.FAILED, lambda: was_active) == Position(Step.DEMOTE)
    resumed = machine.resumed(Position(Step.DRAIN_NEW), was_active)
    assert resumed == Position(Step.DRAIN_NEW)


def test_an_interrupted_stop_of_what_has_flows_drains_first() -> None:
    flows = replace(BOTH, undrained=True)
    assert machine.resumed(Position(Step.STOP), flows) == Position(Step.DRAIN)
    assert machine.resumed(Position(Step.STOP_NEW), flows) == Position(Step.DRAIN_NEW)
    assert machine.resumed(Position(Step.STOP), BOTH) == Position(Step.STOP)


def test_a_start_that_was_cut_is_made_again() -> None:
    dead = Facts(had_old=True, old_alive=True, new_alive=False)
    assert machine.resumed(Position(Step.START), dead) == Position(Step.START)


@pytest.mark.parametrize("outcome", [Outcome.FINISHED, Outcome.ROLLED_BACK])
def test_what_has_ended_is_not_resumed(outcome: Outcome) -> None:
    assert machine.resumed(Position(Step.STOP, outcome), BOTH) == Position(Step.STOP, outcome)


def test_the_drains_policy() -> None:
    finished = Position(Step.DRAIN, Outcome.FINISHED)
    assert machine.after(Step.DRAIN, Result.KEPT, lambda: BOTH) == finished
    stuck = machine.after(Step.DRAIN, Result.STUCK, lambda: BOTH)
    assert stuck == Position(Step.DRAIN, Outcome.FAILED)
    assert machine.may_roll_back(stuck)
    assert machine.resumed(stuck, BOTH) == Position(Step.DRAIN)
    kept_new = machine.after(Step.DRAIN_NEW, Result.KEPT, lambda: BOTH)
    assert kept_new == Position(Step.DRAIN_NEW, Outcome.ROLLED_BACK)


def test_how_long_one_can_go_back() -> None:
    for step in Step:
        forth = step in machine.FORWARD and step is not Step.STOP
        assert machine.may_roll_back(Position(step)) == forth
    assert not machine.may_roll_back(Position(Step.STOP, Outcome.FINISHED))
    assert not machine.may_roll_back(Position(Step.STOP, Outcome.FAILED))
    assert not machine.may_roll_back(Position(Step.STOP_NEW, Outcome.FAILED))


@pytest.mark.parametrize("old", [True, False])
def test_a_start_whose_instance_an_operator_had_made_active(old: bool) -> None:
    """Demote a new instance that was active and has ended, or that the operator stopped."""
    facts = Facts(had_old=True, old_alive=old, new_alive=False, new_active=True)
    assert machine.resumed(Position(Step.START, Outcome.FAILED), facts) == Position(Step.DEMOTE)


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("new", [True, False])
def test_superseded(old: bool, new: bool) -> None:
    """Leave only the drain to a superseded restart, whichever instance lives."""
    facts = Facts(had_old=True, old_alive=old, new_alive=new, superseded=True)
    assert machine.resumed(Position(Step.DRAIN), facts) == Position(Step.DRAIN)
    failed = machine.after(Step.DRAIN, Result.FAILED, lambda: facts)
    assert failed == Position(Step.DRAIN, Outcome.FAILED)


@pytest.mark.parametrize("step", list(Step))
def test_closed(step: Step) -> None:
    """End a restart whose instances are all gone: as finished if its drain had begun."""
    done = step in (Step.DRAIN, Step.STOP)
    assert machine.closed(step) == Position(step, Outcome.FINISHED if done else Outcome.ROLLED_BACK)
    assert machine.closed(step).has_ended


def test_what_an_unpromoted_instance_got_of_clients_drains() -> None:
    strayed = replace(BOTH, strayed=True)
    alone = replace(strayed, old_alive=False)  # the step itself does not stop it then
    for step in (Step.START, Step.ENROLL, Step.CANARY):
        assert machine.after(step, Result.FAILED, lambda: strayed) == Position(Step.DEMOTE)
        assert machine.after(step, Result.FAILED, lambda: alone) == Position(Step.STOP_NEW)


def test_a_rollback_to_a_dead_instance_turns_forward() -> None:
    alone = Facts(had_old=True, old_alive=False, new_alive=True)
    unproved = replace(alone, unproved=True)
    failed = Position(Step.STOP_NEW, Outcome.FAILED)
    assert machine.after(Step.STOP_NEW, Result.FAILED, lambda: alone) == failed
    assert machine.resumed(failed, alone) == Position(Step.PROMOTE)
    assert machine.resumed(failed, unproved) == Position(Step.ENROLL)
    assert machine.after(Step.DRAIN_NEW, Result.FAILED, lambda: unproved) == Position(Step.ENROLL)
    assert machine.resumed(failed, BOTH) == Position(Step.STOP_NEW)


def test_a_stop_that_finds_new_flows_drains() -> None:
    assert machine.after(Step.STOP, Result.UNDRAINED, lambda: BOTH) == Position(Step.DRAIN)
    assert machine.after(Step.STOP_NEW, Result.UNDRAINED, lambda: BOTH) == Position(Step.DRAIN_NEW)
