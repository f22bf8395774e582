# SPDX-License-Identifier: Apache-2.0
"""The run of a restart from its first step to its end: machine, journal and steps together."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Optional, Protocol

from udpgrm.restart import host, machine, statedir
from udpgrm.restart.journal import Journal, Suspended
from udpgrm.restart.machine import Facts, Position, Result, Step
from udpgrm.restart.prober import Evidence, StepFailed
from udpgrm.restart.systemd import SystemdError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Cancelled(Exception):
    """Raised when a rollback was requested."""


class Detached(Exception):
    """Raised when the process must end while the restart drains."""


class Superseded(Detached):
    """Raised when the next restart is to begin; it has the drain continued."""


class StepRunner(Protocol):
    """Performs steps, as steps.Steps does."""

    def perform(self, step: Step, evidence: Evidence) -> Result:
        """Do a step. Raises StepFailed, and what check_cancelled raises."""
        ...

    def facts(self) -> Facts:
        """Return which instances live. Raises SystemdError."""
        ...


class Requests:
    """The requests to a running restart, by signals and by files of other commands."""

    def __init__(self, journal: Journal) -> None:
        """Read the requests for the restart of this journal."""
        self._journal = journal
        self._rollback = rollback_path(journal.name)
        self._succession = succession_path(journal.name)
        self._signal: Optional[signal.Signals] = None

    @contextlib.contextmanager
    def consumed(self) -> Iterator[None]:
        """Take signals as requests while the with block lasts."""
        with host.current.signals(_SIGNALS, self._on_signal):
            yield

    def _on_signal(self, number: int, _: object) -> None:
        self._signal = signal.Signals(number)

    def delete(self) -> None:
        """Delete the files of earlier requests."""
        host.current.delete(self._rollback)
        host.current.delete(self._succession)

    def check_cancelled(self) -> None:
        """End a step that waits if that was requested. Raises Cancelled, Detached."""
        position = self._journal.position
        if machine.may_roll_back(position) and host.current.exists(self._rollback):
            raise Cancelled("asked for by udpgrm rollback")
        if self._journal.may_be_superseded and host.current.exists(self._succession):
            raise Superseded
        if self._signal is None:
            return
        if position.step in (Step.DRAIN, Step.DRAIN_NEW):
            raise Detached
        if position.step in machine.FORWARD[: machine.FORWARD.index(Step.PROMOTE)]:
            raise Cancelled(f"interrupted by {self._signal.name}")


def rollback_path(service: str) -> Path:
    """Return the path of `udpgrm rollback`'s request to the process that has the lock."""
    return statedir.path_of(service, ".rollback")


def succession_path(service: str) -> Path:
    """Return the path of the next restart's request to the process that drains."""
    return statedir.path_of(service, ".next")


def run(
    journal: Journal,
    runner: StepRunner,
    check_cancelled: Callable[[], None],
    on_change: Callable[[], None],
) -> Position:
    """Run the steps from the journal's position to the end. Raises Detached, Suspended.

    on_change is called whenever the journal has changed.
    """
    while journal.position.outcome is None:
        step = journal.position.step
        record = journal.begin(step)
        journal.detached = False
        on_change()
        reason = ""
        try:
            check_cancelled()
            result = runner.perform(step, record.evidence)
            reason = str(record.evidence.get("reason", ""))
            if step is Step.CANARY:
                check_cancelled()  # the last moment to end without a trace
        except Cancelled as error:
            result, reason = Result.CANCELLED, str(error)
        except (StepFailed, OSError) as error:
            result, reason = Result.FAILED, " ".join(str(error).split())
        except Superseded:
            journal.detached = True
            journal.save()
            # raises again, unless the next restart was given up while that took long
            with contextlib.suppress(Cancelled):
                check_cancelled()
            continue
        except Detached:
            journal.detached = True
            journal.save()
            raise
        if step is Step.VERIFY and result is Result.DONE:
            journal.promotion_window_s = round(journal.since_promotion(), 4)
        try:
            to = machine.after(step, result, runner.facts)
        except SystemdError as error:
            raise Suspended(f"{reason}; and then: {error}") from error
        journal.end(record, result, reason, to)
        on_change()
    return journal.position
