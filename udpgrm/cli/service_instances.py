# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""udpgrm service start, stop: the first instance of a service, and its end."""

from __future__ import annotations

import functools
from typing import Optional

from udpgrm.cli import adopt, common, status
from udpgrm.cli.errors import CommandError
from udpgrm.cli.options import Arguments
from udpgrm.restart import ending, first, former, migration, systemd
from udpgrm.restart.first import Changes
from udpgrm.restart.migration import Migration
from udpgrm.restart.systemd import SystemdError
from udpgrm.services import loader


def start(arguments: Arguments, name: str) -> int:
    """Start the first instance, unless one runs, or adopt the unit that serves."""
    changes = Changes(arguments.flag("--check"))
    service = loader.load(name, common.services_dir())
    try:
        systemd.template_of(service)
        notes = first.start_or_adopt(
            name,
            arguments.given.get("--adopt") or former.predecessor(name) or _serving_package(name),
            changes,
            functools.partial(adopt.adopt, arguments, name),
            functools.partial(status.document_of, arguments, name),
        )
    except SystemdError as error:
        raise CommandError(f"{name}: {error}") from error
    return _report(arguments, name, changes, notes)


def adopt_package(arguments: Arguments, name: str) -> Optional[Migration]:
    """Adopt the unit of a service's package, if it serves; None: it does not.

    Raises CommandError: the service is defined then, and its clients are served as before.
    """
    unit = None
    try:
        unit = _serving_package(name)
        if unit is None or first.instances(name):
            return None
        done = adopt.adopt(arguments, name, unit)
        former.save_predecessor(name, unit)
    except (CommandError, SystemdError) as error:
        again = "" if unit is None else f"; then: udpgrm service start {name} --adopt={unit}"
        raise CommandError(f"{name} is defined, but nothing is adopted: {error}{again}") from error
    return done


def _serving_package(name: str) -> Optional[str]:
    """Return the unit of a service's package, if it serves one of the service's addresses."""
    try:
        service = loader.load(name, common.services_dir())
    except loader.DefinitionError:
        return None
    unit = service.unit_from
    if not unit or not systemd.runs() or not systemd.running(unit):
        return None
    return unit if migration.serves(service, unit) else None


def stop(arguments: Arguments, name: str) -> int:
    """Stop all instances of a service, unless flows would be lost."""
    changes = Changes(arguments.flag("--check"))
    try:
        if not arguments.flag("--lose-flows"):
            _refuse_loss(arguments, name)
        first.stop(name, changes)
    except SystemdError as error:
        raise CommandError(f"{name}: {error}") from error
    return _report(arguments, name, changes, [])


def disable(name: str) -> None:
    """Let the host not start a service without a definition: its boot would have a failed unit."""
    try:
        if systemd.runs():
            first.disable(name)
    except SystemdError as error:
        raise CommandError(f"{name} is removed, but may be started at boot: {error}") from error


def _refuse_loss(arguments: Arguments, name: str) -> None:
    running = first.instances(name)
    if not running:
        return
    try:
        document = status.document_of(arguments, name)
    except loader.DefinitionError as error:
        raise CommandError(
            f"{name}: {', '.join(running)} runs, and its flows are unknown without a definition "
            f"({error}); stop it first"
        ) from error
    reason = ending.loss(document)
    if reason is not None:
        raise CommandError(f"{name}: {reason}")


def _report(arguments: Arguments, name: str, changes: Changes, notes: list[str]) -> int:
    if arguments.flag("--json"):
        common.print_json(
            {
                "service": name,
                "changed": bool(changes.names),
                "units": changes.names,
                "notes": notes,
            }
        )
        return 0
    end = common.ending(arguments, True) if changes.names else "nothing to do"
    print(f"{name}: {', '.join(changes.names)}{end}")
    for note in notes:
        print(f"  {note}")
    return 0
