# SPDX-License-Identifier: Apache-2.0
"""Restarts in this process: begin, resume and roll back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, Optional

from udpgrm.restart import (
    host,
    lock,
    machine,
    migration,
    prepare,
    release,
    statedir,
    transaction,
    unanswered,
)
from udpgrm.restart import journal as journals
from udpgrm.restart.decoy import DecoyUnit
from udpgrm.restart.evidence import KernelProber
from udpgrm.restart.groups import Groups
from udpgrm.restart.instances import Instances, TemplateUnits
from udpgrm.restart.journal import Journal
from udpgrm.restart.machine import Outcome, Position, Result
from udpgrm.restart.prober import Prober
from udpgrm.restart.progress import BestEffort, Progress
from udpgrm.restart.steps import Steps
from udpgrm.restart.systemd import SystemdError
from udpgrm.restart.transaction import Requests
from udpgrm.services import loader
from udpgrm.services.definition import Group, Service

#: Seconds for a draining process to suspend its restart: a busy disk takes some.
_SUCCESSION_S = 60.0
_POLL_S = 0.02


class Kernel(NamedTuple):
    """The kernel as restarts reach it; a simulation has one of its own."""

    groups: Callable[[Path, Sequence[Group]], Groups]
    prober: Callable[[Service, Groups], AbstractContextManager[Prober]]


kernel = Kernel(Groups, KernelProber)


class NotPossible(Exception):
    """Raised when a restart cannot begin, resume or roll back; says why, and what to do."""


def plan(service: Service, pin_dir: Path) -> dict[str, Any]:
    """Return what a restart would do now. Raises Refused, SystemdError, NotPossible."""
    refuse_unfinished(service.name)
    groups = kernel.groups(pin_dir, service.groups)
    chosen = prepare.check(service, groups, instances_of(service, groups))
    found = _way(service, groups, chosen.old, chosen.new)
    working = {group["working_generation"] for group in found["groups"]}
    unknown = migration.unknown_clients(service, chosen.old)
    notes = [
        *filter(None, [unknown]),
        *unanswered.notes(service, groups, chosen.old),
        *_limits(service, groups, chosen.old),
    ]
    return {
        **found,
        "from_release": release.serving(journals.recent(service.name), working),
        "notes": notes,
    }


def _limits(service: Service, groups: Groups, generation: Optional[int]) -> list[str]:
    """Return notes of what steering does not reach of the instance that serves."""
    if generation is None:
        return []
    try:
        return groups.limits(generation, instances_of(service, groups).processes(generation))
    except (SystemdError, OSError):  # the instance has ended, or is out of reach
        return []


def unfinished_plan(service: Service, journal: Journal, pin_dir: Path) -> dict[str, Any]:
    """Return what the last restart does once it is resumed, in the form of plan."""
    groups = kernel.groups(pin_dir, service.groups)
    return {
        **_way(service, groups, journal.from_generation, journal.to_generation),
        "from_release": journal.from_release,
        "notes": [],
    }


def _way(
    service: Service, groups: Groups, old: Optional[int], new: Optional[int]
) -> dict[str, Any]:
    instances = instances_of(service, groups)
    working = groups.working()
    return {
        "service": service.name,
        "from_generation": old,
        "to_generation": new,
        "instance": None if new is None else instances.name(new),
        "stops": None if old is None else instances.name(old),
        "groups": [
            {
                "address": group.address,
                "application": group.application,
                "working_generation": working[group.address],
                "sockets": group.sockets,
                "probes": [probe.type for probe in service.probes_of(group)],
            }
            for group in service.groups
        ],
        "steps": [step.value for step in machine.FORWARD],
    }


def instances_of(service: Service, groups: Groups) -> Instances:
    """Return the object that starts and stops a service's instances."""
    if service.instances.kind == "template":
        return TemplateUnits(service)
    return DecoyUnit(service, groups)


def refuse_unfinished(name: str) -> None:
    """Raise NotPossible if the last restart waits for a decision."""
    last = journals.load(name)
    if last is None or last.position.has_ended or last.may_be_superseded or last.stale:
        return
    how = "has failed" if last.position.outcome else "was suspended"
    also = f" or udpgrm rollback {name}" if machine.may_roll_back(last.position) else ""
    raise NotPossible(
        f"{name}: the last restart {how} in {last.position.step.value}: "
        f"udpgrm restart {name} --resume{also}"
    )


def hand_over(service: Service, pin_dir: Path, continue_drain: Callable[[str], None]) -> None:
    """Hand a restart that drains over to a process of its own, so that the next one can begin.

    continue_drain: starts a process that resumes the restart of this name. Nothing is
    changed if the next one would be refused. Raises as begin does.
    """
    name = service.name
    last = journals.load(name)
    if last is None or not last.may_be_superseded:
        return
    plan(service, pin_dir)
    try:
        journals.want_room()
    except journals.Suspended as error:
        raise NotPossible(f"{name}: {error}") from error
    request = transaction.succession_path(name)
    deadline = host.current.monotonic() + _SUCCESSION_S
    try:
        while lock.is_locked(name) and host.current.monotonic() < deadline:
            host.current.touch(request)
            host.current.sleep(_POLL_S)
        with lock.locked(name):
            last = _last(name)
            if not last.may_be_superseded:
                return
            last.supersede()
    finally:
        host.current.delete(request)
    continue_drain(last.name)


def begin(
    service: Service,
    definition: str,
    to_release: str,
    pin_dir: Path,
    progress: Progress,
    on_note: Callable[[str], None],
) -> Journal:
    """Restart a service; on_note gets what an operator should know.

    Raises Busy, Refused, NotPossible, Detached, Suspended.
    """
    with lock.locked(service.name):
        host.current.delete(transaction.rollback_path(service.name))  # a request to another restart
        planned = plan(service, pin_dir)  # refused before the last journal is lost
        last = journals.load(service.name)
        if last is not None and last.may_be_superseded:
            raise NotPossible(f"{service.name}: an earlier restart has begun to drain: try again")
        journal = Journal(
            statedir.path_of(service.name),
            service.name,
            definition,
            host.current.time(),
            from_release=planned["from_release"],
            release=to_release,
        )
        try:
            journal.save()
        except journals.Suspended as error:
            raise NotPossible(f"{service.name}: {error}") from error
        for note in planned["notes"]:
            on_note(note)
        return _run(journal, service, pin_dir, progress, lambda steps: Position())


def resume(name: str, pin_dir: Path, progress: Progress) -> Journal:
    """Resume a restart whose process has died, or which has failed. Raises as begin does."""
    with lock.locked(name):
        journal = _last(name)
        service = _definition(journal)
        if journal.stale and not journal.position.has_ended:
            return _close(journal, progress)
        return _run(
            journal,
            service,
            pin_dir,
            progress,
            lambda steps: machine.resumed(journal.position, steps.facts_of_resume()),
        )


def _close(journal: Journal, progress: Progress) -> Journal:
    """Close the journal of an earlier boot; the instances of its generations are gone."""
    record = journal.begin(journal.position.step)
    to = machine.closed(record.step)
    result = Result.DONE if to.outcome is Outcome.FINISHED else Result.CANCELLED
    journal.detached = False
    journal.end(record, result, "the machine was rebooted: its instances are gone", to)
    BestEffort(progress).show(journal.to_json())
    return journal


def roll_back(name: str, pin_dir: Path, progress: Progress) -> Journal:
    """Roll back a restart that no process runs. Raises as begin does."""
    with lock.locked(name):
        journal = _last(name)
        refuse_rollback(journal)
        service = _definition(journal)

        def position(steps: Steps) -> Position:
            step = journal.position.step
            to = machine.after(step, Result.CANCELLED, steps.facts)
            if to.outcome is Outcome.FAILED:
                raise NotPossible(
                    f"{name}: generation {journal.from_generation} does not live: "
                    f"udpgrm restart {name} --resume"
                )
            journal.end(journal.begin(step), Result.CANCELLED, "asked for by udpgrm rollback", to)
            return to

        return _run(journal, service, pin_dir, progress, position)


def refuse_rollback(journal: Journal) -> None:
    """Raise NotPossible if there is nothing to roll back to."""
    if journal.superseded:
        raise NotPossible(
            f"{journal.name}: {journal.service} was restarted again since: "
            f"udpgrm rollback {journal.service} undoes that"
        )
    if journal.stale:
        raise NotPossible(f"{journal.service}: the machine was rebooted: nothing to roll back")
    if not machine.may_roll_back(journal.position):
        document = journal.to_json()
        raise NotPossible(
            f"{journal.service}: the last restart is {document['state']}: nothing to roll back"
        )


def _last(name: str) -> Journal:
    journal = journals.load(name)
    if journal is None:
        raise NotPossible(f"{name}: there was no restart")
    journals.want_complete(journal)
    return journal


def _definition(journal: Journal) -> Service:
    """Return the service as it was when its restart began. Raises JournalError."""
    service, problems = loader.parse(journal.service, journal.definition.encode())
    if service is None:
        raise journals.unusable(journal, ": ".join(filter(None, ("definition", *problems[0]))))
    return service


def _run(
    journal: Journal,
    service: Service,
    pin_dir: Path,
    progress: Progress,
    position: Callable[[Steps], Position],
) -> Journal:
    requests = Requests(journal)
    # a rollback that was requested meanwhile must be consumed
    host.current.delete(transaction.succession_path(journal.name))
    groups = kernel.groups(pin_dir, service.groups)

    watchers = BestEffort(progress)

    def on_change() -> None:
        watchers.show(journal.to_json())

    try:
        with kernel.prober(service, groups) as prober, requests.consumed():
            steps = Steps(
                service,
                journal,
                instances_of(service, groups),
                groups,
                prober,
                requests.check_cancelled,
                on_change,
            )
            journal.position = position(steps)
            if journal.position.outcome is not None:
                journal.save()
                on_change()
            transaction.run(journal, steps, requests.check_cancelled, on_change)
    finally:
        requests.delete()
    return journal
