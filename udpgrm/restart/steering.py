# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The working generation of a service's groups: read, and set on the sockets of an instance.

It is set by the option that servers use: so the flows of the one before are counted on, and
tubular is notified.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import udpgrm.client as grm
from udpgrm import abi
from udpgrm.restart.groups import Groups
from udpgrm.restart.instances import Instances
from udpgrm.restart.journal import Journal, load, warn
from udpgrm.restart.lock import Busy, locked
from udpgrm.restart.machine import Outcome, Result, Step
from udpgrm.restart.plan import Refused
from udpgrm.restart.statedir import JournalError

_EARLY = (Step.START, Step.ENROLL, Step.CANARY)


def serves(groups: Groups, generation: int) -> bool:
    """Return whether new flows go to living sockets of a generation. Raises Refused."""
    with contextlib.suppress(FileNotFoundError):  # nothing is steered
        return any(
            facts.working == generation and bool(facts.living.get(generation))
            for facts in groups.facts()
        )
    return False


def is_active(groups: Groups, generation: int) -> bool:
    """Return whether a generation is the working one of a group, also if its sockets are gone."""
    with contextlib.suppress(FileNotFoundError):  # nothing is steered
        return generation in groups.working().values()
    return False


def another_is_active(groups: Groups, generation: int) -> bool:
    """Return whether a group's working generation is another one, as is_active()."""
    with contextlib.suppress(FileNotFoundError):  # nothing is steered
        working = set(groups.working().values())
        return not working <= {None, abi.GENERATION_NONE, generation}
    return False


def is_unserved(groups: Groups) -> bool:
    """Return whether no group's working generation has sockets."""
    with contextlib.suppress(FileNotFoundError):  # nothing is steered
        return not any(facts.living.get(facts.working or 0) for facts in groups.facts())
    return True


def is_last(groups: Groups, generation: int) -> bool:
    """Return whether a generation has sockets and no other one has: packets have no other way."""
    with contextlib.suppress(FileNotFoundError):  # nothing is steered
        return set().union(*(facts.living for facts in groups.facts())) == {generation}
    return False


def refuse_active(groups: Groups, generation: int, evidence: dict[str, Any]) -> None:
    """Raise Refused if new flows go to an instance that is to be stopped."""
    if serves(groups, generation):
        evidence["active"] = True
        raise Refused(refusal(generation))


def refusal(generation: int) -> str:
    """Return why an instance that is active is not stopped."""
    return f"generation {generation} is active again: it is not stopped (udpgrm list)"


def note_early(groups: Groups, journal: Journal, evidence: dict[str, Any]) -> None:
    """Record that the new instance is active before its restart has promoted it.

    It has flows from then on, also if an operator takes that back.
    """
    generation = journal.to_generation
    if "active" not in evidence and generation is not None and is_active(groups, generation):
        evidence["active"] = True
        journal.save()


def was_early(journal: Journal) -> bool:
    """Return whether that was recorded."""
    return any("active" in record.evidence for record in journal.steps if record.step in _EARLY)


def is_proved(journal: Journal) -> bool:
    """Return whether the new instance has passed its canary."""
    canary = journal.last(Step.CANARY)
    return canary is not None and canary.result is Result.DONE


@contextlib.contextmanager
def sockets_of(
    groups: Groups, instances: Instances, generation: int
) -> Iterator[dict[str, socket.socket]]:
    """Yield a socket of a generation in each group, by address. Raises Refused, SystemdError."""
    with groups.held(generation, instances.processes(generation)) as sockets:
        missing = [one.address for one in groups.groups if one.address not in sockets]
        if missing:
            raise Refused(f"generation {generation} has no socket at {', '.join(missing)}")
        yield sockets


def restore(groups: Groups, instances: Instances, stopped: int, generation: int) -> list[str]:
    """Promote a generation where one that was stopped is active, and return the addresses.

    `udpgrm working-gen` may have come between the last check and the stop.
    """
    with contextlib.suppress(FileNotFoundError):  # nothing is steered
        wrong = [where for where, number in groups.working().items() if number == stopped]
        if wrong:
            with sockets_of(groups, instances, generation) as sockets:
                for where in wrong:
                    grm.promote(sockets[where], generation)
        return wrong
    return []


def warn_restored(stopped: int, restored: list[str], evidence: dict[str, Any]) -> None:
    """Warn of the addresses where a generation was made active as it was stopped."""
    for where in restored:
        warn(evidence, f"{where}: {stopped} was made active as it was stopped")


def restore_last(groups: Groups, instances: Instances, journal: Journal) -> list[str]:
    """Restore as above for the old instance of a superseded restart, by the last one's outcome.

    A restart that runs, or waits for a decision, has that to itself.
    """
    with contextlib.suppress(Busy, JournalError), locked(journal.service):
        last = load(journal.service)
        if last is None:  # the next one was refused
            generation = journal.to_generation
        elif last.position.outcome is Outcome.FINISHED:
            generation = last.to_generation
        else:
            generation = last.from_generation if last.position.has_ended else None
        stopped = journal.from_generation
        if stopped is not None and generation is not None and instances.is_alive(generation):
            return restore(groups, instances, stopped, generation)
    return []
