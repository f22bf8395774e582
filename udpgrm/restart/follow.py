# SPDX-License-Identifier: Apache-2.0
"""Restarts in another process: a transient unit of systemd, watched by their journal."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Optional

from udpgrm.restart import host, lock, systemd
from udpgrm.restart import journal as journals
from udpgrm.restart.journal import Journal
from udpgrm.restart.machine import UNDO
from udpgrm.restart.progress import Progress
from udpgrm.restart.release import is_verified
from udpgrm.restart.systemd import SystemdError

_TAIL_S = 0.1
#: Between a unit's start and its hold on the lock, and between two processes.
_GRACE_S = 2.0
_BEGIN_S = 30.0
#: Variables of the command's environment that a restart in a unit needs.
_ENVIRONMENT = ("SUDO_USER", "UDPGRM_STATE_DIR", "UDPGRM_SERVICES_DIR")


class LaunchError(Exception):
    """Raised when the unit did not begin; the message is the unit's."""


def launch(service: str, arguments: Sequence[str]) -> str:
    """Run a udpgrm command for a service in a unit of its own, and return the unit.

    So it continues when the session that asked for it is lost. Raises LaunchError.
    """
    unit = f"udpgrm-restart-{service}.service"
    deadline = host.current.monotonic() + _GRACE_S
    while not lock.is_locked(service) and _is_active(unit) and host.current.monotonic() < deadline:
        host.current.sleep(_TAIL_S)  # an earlier one has done its work and is about to end
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    try:
        systemd.run_transient(unit, environment, _command(arguments))
    except SystemdError as error:
        if _is_active(unit):
            message = f"{service}: a restart runs already: {lock.holder(service)}"
            raise LaunchError(message) from error
        raise LaunchError(str(error)) from error
    return unit


def continue_drain(name: str, arguments: Sequence[str]) -> None:
    """Run the udpgrm command that continues a superseded restart, without waiting for it.

    Raises LaunchError, which says how to continue it.
    """
    if not systemd.runs():
        host.current.spawn(_command(arguments))
        return
    try:
        launch(name, arguments)
    except LaunchError as error:
        if not lock.is_locked(name):
            remedy = f"udpgrm restart {name} --resume"
            message = f"no process continues the drain of {name}: {error} ({remedy})"
            raise LaunchError(message) from error


def _command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, str(Path(sys.argv[0]).resolve()), *arguments]


def await_begin(service: str, unit: str, before: Optional[Journal]) -> None:
    """Wait until a unit has begun to work. Raises LaunchError with its message if it ended."""
    deadline = host.current.monotonic() + _BEGIN_S
    then = None if before is None else before.to_json()
    while host.current.monotonic() < deadline:
        journal = journals.load(service)
        if journal is not None and journal.to_json() != then:
            return
        if not _is_active(unit) and not lock.is_locked(service):
            line = systemd.last_line(unit)
            raise LaunchError(line.partition("udpgrm: ")[2] or line or f"{unit} ended at once")
        host.current.sleep(_TAIL_S)
    raise LaunchError(f"{unit} did not begin in {_BEGIN_S:g} s (systemctl status {unit})")


def _is_active(unit: str) -> bool:
    """Return whether a unit runs, or may: systemd does not answer."""
    try:
        return systemd.is_active(unit)
    except SystemdError:
        return True


class Followed(NamedTuple):
    """A restart as it was last seen; journal None: there was none. running: a process runs it."""

    journal: Optional[Journal]
    running: bool


def has_ended(journal: Journal) -> bool:
    """Return whether there is nothing left to wait for."""
    return journal.position.outcome is not None


def is_decided(journal: Journal) -> bool:
    """Return whether new flows go to the instance they will go to, as far as this restart goes."""
    document = journal.to_json()
    is_back = journal.position.outcome is None and journal.position.step in UNDO
    return has_ended(journal) or is_back or is_verified(document)


def follow(
    name: str,
    progress: Progress,
    is_enough: Callable[[Journal], bool] = has_ended,
    limit: float = math.inf,
) -> Followed:
    """Show a restart until it is far enough, has ended, or its process has.

    Wait `limit` seconds, and longer if only so it is known whether a process still runs it. If
    the next restart begins meanwhile, this one is still followed.
    """
    deadline = host.current.monotonic() + limit
    unheld_since: Optional[float] = None
    shown = None
    begun: Optional[float] = None
    while True:
        held = lock.is_locked(name)  # before the journal: its last change is not missed
        journal = journals.load(name)
        if begun is not None and (journal is None or journal.started != begun):
            superseded = journals.superseded(name)
            name = next((item.name for item in superseded if item.started == begun), name)
            begun = None
            continue
        if journal is not None:
            begun = journal.started
        if journal is not None and (document := journal.to_json()) != shown:
            progress.show(document)
            shown = document
        if journal is not None and not has_ended(journal) and is_enough(journal):
            return Followed(journal, held)
        if not held and (journal is None or has_ended(journal)):
            return Followed(journal, False)
        if held:
            unheld_since = None
            if host.current.monotonic() >= deadline:
                return Followed(journal, True)
        elif unheld_since is None:
            unheld_since = host.current.monotonic()
        elif host.current.monotonic() - unheld_since > _GRACE_S:
            return Followed(journal, False)
        host.current.sleep(_TAIL_S)
