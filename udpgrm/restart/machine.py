# SPDX-License-Identifier: Apache-2.0
"""The restart's state machine: which step is next. Pure; nothing is done here.

    prepare -> start -> enroll -> canary -> promote -> verify -> drain -> stop -> finished

A failure before promote leads to stop_new; from promote on to demote,
drain_new, stop_new: the new instance keeps its flows while it drains. Both end
as rolled back. If the old instance ends before the new one has drained, the
restart continues with promote. An undo that fails, and a drain that its policy lets fail,
leave everything as it is: failed, and a resume tries that step again. So does a stop of the only
instance that has sockets: then a resume proves the new one. A stop that finds new flows, and a
resumed one that finds any, drains first: the instance may have become active meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Optional


class Step(str, Enum):
    """A step of a restart."""

    PREPARE = "prepare"
    START = "start"
    ENROLL = "enroll"
    CANARY = "canary"
    PROMOTE = "promote"
    VERIFY = "verify"
    DRAIN = "drain"
    STOP = "stop"
    DEMOTE = "demote"
    DRAIN_NEW = "drain_new"
    STOP_NEW = "stop_new"


FORWARD = (
    Step.PREPARE,
    Step.START,
    Step.ENROLL,
    Step.CANARY,
    Step.PROMOTE,
    Step.VERIFY,
    Step.DRAIN,
    Step.STOP,
)
UNDO = (Step.DEMOTE, Step.DRAIN_NEW, Step.STOP_NEW)
BEFORE_PROMOTE = (Step.START, Step.ENROLL, Step.CANARY)
_DRAIN_BEFORE = {Step.STOP: Step.DRAIN, Step.STOP_NEW: Step.DRAIN_NEW}
_AFTER_PROMOTE = (Step.PROMOTE, Step.VERIFY, Step.DRAIN)


class Result(str, Enum):
    """The result of a step."""

    DONE = "done"
    FAILED = "failed"
    #: A drain that ran out of time, by its policy: the instance is left running.
    KEPT = "kept"
    #: A drain that ran out of time, by its policy: the restart stays where it is.
    STUCK = "stuck"
    #: The operator asked for a rollback meanwhile.
    CANCELLED = "cancelled"
    #: A stop that found new flows: the instance drains again.
    UNDRAINED = "undrained"


class Outcome(str, Enum):
    """The outcome of a restart."""

    FINISHED = "finished"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"


@dataclass(frozen=True)
class Facts:
    """The state of the instances; had_old is False for a first deployment.

    superseded: a later restart has begun, so this one has only its drain to end.
    new_active: the new one was promoted, by this restart or another command, and may be dead now.
    another_active: another generation than the new one was promoted, and may be dead now.
    active_early: another command promoted the new one before this restart did.
    undrained: the instance that is to be stopped is active, or has flows; only a resume asks.
    reclaimed: the old one of a superseded restart was made active again, as nothing else served.
    strayed: the new one has flows, as it lived alone for a while before it was promoted.
    unproved: the new one has not passed its canary.
    unserved: no working generation has a socket; only a resume asks.
    """

    had_old: bool
    old_alive: bool
    new_alive: bool
    superseded: bool = False
    new_active: bool = False
    another_active: bool = False
    undrained: bool = False
    active_early: bool = False
    reclaimed: bool = False
    strayed: bool = False
    unproved: bool = False
    unserved: bool = False

    @property
    def can_go_back(self) -> bool:
        """Return whether a rollback leaves clients no worse off than staying."""
        if self.superseded:
            return False
        return not self.had_old or self.old_alive or not self.new_alive

    @property
    def must_stay(self) -> bool:
        """Return whether only the new instance is left to serve."""
        return not (self.can_go_back or self.superseded)

    @property
    def forward(self) -> Position:
        """Return where a rollback turns forward, as only the new instance is left."""
        return Position(Step.ENROLL if self.unproved else Step.PROMOTE)


@dataclass(frozen=True)
class Position:
    """The step that a restart is in; with an outcome: that it ended in."""

    step: Step = Step.PREPARE
    outcome: Optional[Outcome] = None

    @property
    def has_ended(self) -> bool:
        """Return whether nothing remains to be done or decided."""
        return self.outcome in (Outcome.FINISHED, Outcome.ROLLED_BACK)


def may_roll_back(position: Position) -> bool:
    """Return whether the operator may still roll back."""
    if position.outcome is Outcome.FAILED:
        return position.step in (*BEFORE_PROMOTE, *_AFTER_PROMOTE)
    return position.outcome is None and position.step in FORWARD and position.step != Step.STOP


def after(step: Step, result: Result, facts: Callable[[], Facts]) -> Position:
    """Return the position after a step's result; facts is called only if they matter."""
    if result is Result.DONE:
        return _next(step)
    if result is Result.KEPT:
        return Position(step, Outcome.FINISHED if step in FORWARD else Outcome.ROLLED_BACK)
    if result is Result.STUCK:
        return Position(step, Outcome.FAILED)
    if result is Result.UNDRAINED:
        return Position(_DRAIN_BEFORE[step])
    if step is Step.STOP_NEW:
        return Position(step, Outcome.FAILED)
    found = facts()
    if found.reclaimed:
        return Position(step, Outcome.ROLLED_BACK)
    if step in UNDO and found.must_stay:
        return found.forward
    if step is Step.DRAIN_NEW:
        return Position(Step.STOP_NEW)
    if step is Step.DEMOTE or (step is Step.STOP and not is_lost(step, found)):
        return Position(step, Outcome.FAILED)
    return back(step, found)


def _next(step: Step) -> Position:
    for track, outcome in ((FORWARD, Outcome.FINISHED), (UNDO, Outcome.ROLLED_BACK)):
        if step in track:
            if step is track[-1]:
                return Position(step, outcome)
            return Position(track[track.index(step) + 1])
    raise AssertionError(step)


def back(step: Step, facts: Facts) -> Position:
    """Return the first position of the rollback from a forward step before stop."""
    if step is Step.PREPARE:
        return Position(step, Outcome.ROLLED_BACK)
    has_served = facts.new_active or facts.active_early or (facts.strayed and facts.can_go_back)
    if step in BEFORE_PROMOTE and not has_served:
        return Position(Step.STOP_NEW)
    if facts.can_go_back:
        return Position(Step.DEMOTE)
    return Position(step, Outcome.FAILED)


def closed(step: Step) -> Position:
    """Return the end of a restart whose instances are gone, as the machine was rebooted."""
    done = step in (Step.DRAIN, Step.STOP)
    return Position(step, Outcome.FINISHED if done else Outcome.ROLLED_BACK)


def resumed(position: Position, facts: Facts) -> Position:
    """Return the position to resume a restart at whose process has died, or which has failed."""
    if position.has_ended:
        return position
    step = position.step
    if facts.undrained and step in _DRAIN_BEFORE:
        step = _DRAIN_BEFORE[step]
    # a rollback that was undone by hand goes forward again
    undone = facts.new_active and facts.new_alive and not facts.superseded
    if step is Step.DRAIN_NEW and undone:
        return Position(Step.PROMOTE)
    if step in UNDO and facts.must_stay:
        return facts.forward
    # both had ended and their groups were deleted, before the new one was started again
    is_alone = facts.new_alive and not (facts.old_alive or facts.new_active or facts.superseded)
    if step in (Step.DRAIN, Step.STOP) and facts.unserved and is_alone:
        return Position(Step.ENROLL)
    # a start cannot be rolled back while its instance lives
    has_ended = step is Step.START and position.outcome is not None and not facts.new_alive
    return back(step, facts) if has_ended or is_lost(step, facts) else Position(step)


def is_lost(step: Step, facts: Facts) -> bool:
    """Return whether a step cannot be done: the new instance is dead, or the old one is needed.

    If both are dead, and no other one is active, the drain ends, and the stop fails.
    """
    return not (facts.new_alive or facts.superseded) and (
        step in (Step.ENROLL, Step.CANARY, Step.PROMOTE, Step.VERIFY)
        or (step is Step.START and facts.new_active)
        or (step in (Step.DRAIN, Step.STOP) and (facts.old_alive or facts.another_active))
    )
