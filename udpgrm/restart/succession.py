# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""New flows of a service whose superseded restart still drains its old instance.

They are the next restart's matter, and the instance's that it has made active. But the next one
may have been refused, killed or rolled back, and what was active may have ended since. Then only
the instance that drains is left to serve: it gets new flows again, and is not stopped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Optional

import udpgrm.client as grm
from udpgrm.restart import journal as journals
from udpgrm.restart.groups import Groups
from udpgrm.restart.instances import Instances
from udpgrm.restart.journal import Journal
from udpgrm.restart.lock import Busy, is_locked, locked
from udpgrm.restart.machine import Outcome
from udpgrm.restart.prober import Evidence, StepFailed
from udpgrm.restart.statedir import JournalError
from udpgrm.restart.systemd import SystemdError

_POLL_S = 0.25


def reclaim(groups: Groups, instances: Instances, journal: Journal, evidence: Evidence) -> None:
    """Make the old instance of a superseded restart active again if only it is left to serve.

    Raises StepFailed then: the restart ends, or fails if the service's last one has not ended.
    Does nothing while that one runs, or could make another instance active once it is resumed:
    then it has new flows to itself. Raises Refused.
    """
    old = journal.from_generation
    with contextlib.suppress(Busy, SystemdError):  # an unknown state is no end
        # asked with every sample: systemctl only if need be
        if old is None or _another_serves(groups, old):
            return
        if not _is_alone(groups, instances, journal):
            return
        with locked(journal.service):
            last = _unended(journal.service)
            if not _is_alone(groups, instances, journal) or _can_serve(last, instances):
                return
            with groups.held(old, instances.processes(old)) as sockets:
                for sock in sockets.values():
                    grm.promote(sock, old)
            if not sockets:  # the instance has ended meanwhile
                return
            message = f"no other instance serves: generation {old} is active again"
            if last is not None:  # that restart may start another instance
                raise StepFailed(f"{message} (udpgrm restart {journal.service} --resume)")
            evidence["working"] = groups.working()
            raise StepFailed(message)


def has_reclaimed(journal: Journal) -> bool:
    """Return whether a superseded restart has ended because its old instance is active again."""
    return journal.superseded and bool(journal.steps) and "working" in journal.steps[-1].evidence


def await_another(
    groups: Groups,
    instances: Instances,
    journal: Journal,
    evidence: Evidence,
    wait: Callable[[float], None],
) -> None:
    """Wait until the old instance of a superseded restart is not the only one that could serve.

    A restart that runs makes another one active, or ends: then reclaim. Raises as that does, and
    StepFailed if the service's last restart has to be resumed first.
    """
    while _is_alone(groups, instances, journal):
        reclaim(groups, instances, journal, evidence)
        if _can_serve(_unended(journal.service), instances) and not is_locked(journal.service):
            raise StepFailed(
                "no active instance lives: what could serve is not stopped before the last restart "
                f"is resumed (udpgrm restart {journal.service} --resume)"
            )
        wait(_POLL_S)


def _another_serves(groups: Groups, old: int) -> bool:
    """Return whether new flows go to living sockets of another generation; without state, yes."""
    try:
        found = groups.facts()
    except FileNotFoundError:
        return True
    return any(one.working not in (None, old) and one.living.get(one.working) for one in found)


def _is_alone(groups: Groups, instances: Instances, journal: Journal) -> bool:
    """Return whether nothing serves, but the old instance of a superseded restart could."""
    old = journal.from_generation
    active: set[int] = set()
    with contextlib.suppress(FileNotFoundError):  # nothing is steered
        active = {number for number in groups.working().values() if number is not None}
    if old is None or not active:
        return False
    # if an operator has made it active, another one may wait to be active again
    others = active - {old} or _last(journal)
    if any(map(instances.is_alive, others)):
        return False
    return instances.is_alive(old) and any(groups.living(old).values())


def _unended(service: str) -> Optional[Journal]:
    """Return the last restart of a service if it has not ended."""
    with contextlib.suppress(JournalError):  # damaged: an operator has to delete it
        last = journals.load(service)
        if last is not None and not (last.position.has_ended or last.stale):
            return last
    return None


def _can_serve(last: Optional[Journal], instances: Instances) -> bool:
    """Return whether an instance lives that a restart could make active once it is resumed."""
    numbers = () if last is None else (last.from_generation, last.to_generation)
    return any(number is not None and instances.is_alive(number) for number in numbers)


def _last(journal: Journal) -> set[int]:
    """Return the generations that restarts of the service have left running, and not replaced."""
    with contextlib.suppress(JournalError):
        found = [journals.load(journal.service), *journals.superseded(journal.service)]
        known = [one for one in found if one and one.position.outcome is not Outcome.ROLLED_BACK]
        left = {one.to_generation for one in known} - {one.from_generation for one in known}
        return {number for number in left if number is not None}
    return set()
