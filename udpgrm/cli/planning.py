# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""udpgrm restart --check: what a restart would do, and what it takes until a release serves."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

from udpgrm.cli import common
from udpgrm.cli.errors import CommandError
from udpgrm.cli.options import Arguments
from udpgrm.restart import foreground, lock, release, systemd
from udpgrm.restart import journal as journals
from udpgrm.restart.journal import Journal
from udpgrm.restart.release import Action
from udpgrm.services import loader
from udpgrm.services.definition import Service
from udpgrm.views import services


class Plan(NamedTuple):
    """The plan of a restart. suffices: the release that was asked for serves then."""

    action: Action
    release: Optional[str]
    suffices: bool
    document: dict[str, Any]

    @property
    def changes(self) -> bool:
        """Return whether a restart begins or is resumed."""
        return self.action in (Action.RESUME, Action.RESTART)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of docs/host-interface.md."""
        return {
            **self.document,
            "action": self.action.value,
            "changed": self.changes,
            "release": self.release,
            # only for a restart that would begin
            "notes": self.document["notes"] if self.action is Action.RESTART else [],
        }


def check(arguments: Arguments, name: str) -> int:
    """Print what a restart would do."""
    plan = make(arguments, name)
    if plan.changes:
        try:
            journals.want_room()
        except journals.Suspended as error:
            raise CommandError(f"{name}: {error}") from error
    document = plan.to_json()
    if arguments.flag("--json"):
        common.print_json(document)
    elif plan.action is Action.RESTART:
        print(*_lines(name, document), *document["notes"], sep="\n")
    else:
        words = {
            Action.NONE: "serves already",
            Action.WAIT: "is being started",
            Action.RESUME: "would be started: the last restart would be resumed",
        }
        print(f"{name}: release {plan.release or 'unknown'} {words[plan.action]}")
    return 0


def make(arguments: Arguments, name: str) -> Plan:
    """Return what is to be done: with --release until it serves, else one more restart.

    Raises CommandError if a restart to another name is unfinished, and what foreground.plan raises.
    """
    given = arguments.given.get("--release")
    service = loader.load(name, common.services_dir())
    wanted = release_of(service, given)
    last, running = journals.load(name), lock.is_locked(name)
    is_pending = last is not None and not last.stale and release.is_pending(last.to_json())
    if given is not None and last is not None and is_pending:
        if release.AUTO != given != last.release:
            raise CommandError(
                f"{name}: a restart to another release ({last.release or 'unknown'}) "
                f"{'runs' if running else 'is unfinished'} in {last.to_json()['state']}: "
                f"wait for it, or udpgrm restart {name} --resume"
            )
        # an unknown release is not known to be another one
        suffices = last.release in (None, wanted)
        return _unfinished(arguments, service, last, running, suffices)
    if running and (last is None or not last.may_be_superseded):
        raise CommandError(f"{name}: a restart runs already: {lock.holder(name)}")
    try:
        document = foreground.plan(service, common.pin_dir(arguments))
    except FileNotFoundError as error:
        common.open_state(arguments)  # a better message for a missing state
        raise CommandError(str(error)) from error
    if given is None or document["from_release"] != wanted:
        return Plan(Action.RESTART, wanted, True, document)
    if last is not None and last.position.outcome is None and last.release == wanted:
        return _unfinished(arguments, service, last, running, True)
    return Plan(Action.NONE, wanted, True, document)


def _unfinished(
    arguments: Arguments, service: Service, last: Journal, running: bool, suffices: bool
) -> Plan:
    document = foreground.unfinished_plan(service, last, common.pin_dir(arguments))
    action = Action.WAIT if running else Action.RESUME
    return Plan(action, last.release, suffices, document)


def release_of(service: Service, given: Optional[str]) -> str:
    """Return the name of a release that was given, else the fingerprint."""
    if given not in (None, release.AUTO):
        return str(given)
    definition = common.services_dir() / f"{service.name}{loader.SUFFIX}"
    return release.fingerprint(definition, systemd.template_of(service))


def _lines(name: str, document: dict[str, Any]) -> list[str]:
    """Return what a restart would do, for people."""
    stops = f", stop {document['stops']}" if document["stops"] else ""
    return [
        f"{name}: generation {services.way_text(document)}",
        f"start {document['instance']}{stops}",
        *(
            "\t{address} app {application}: {sockets} sockets".format(**g)
            for g in document["groups"]
        ),
    ]
