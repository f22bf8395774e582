# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""udpgrm adopt."""

from __future__ import annotations

from udpgrm.cli import common
from udpgrm.cli.errors import CommandError
from udpgrm.cli.options import Arguments
from udpgrm.cli.restart import explained, service_name
from udpgrm.client import NotHooked
from udpgrm.restart import foreground, lock, migration
from udpgrm.restart.adoption import AdoptionError
from udpgrm.restart.migration import Migration
from udpgrm.services import loader


def run(arguments: Arguments) -> int:
    """Make a running unit the first generation of a service."""
    name = service_name(arguments)
    unit = arguments.given.get("--unit")
    if not unit:
        raise CommandError("adopt: name the unit that serves now with --unit=UNIT")
    done = adopt(arguments, name, unit)
    if arguments.flag("--json"):
        common.print_json(
            {
                "service": name,
                "unit": done.unit,
                "generation": done.generation,
                "changed": done.changed,
                "sockets": done.sockets,
                "notes": done.notes,
            }
        )
        return 0
    verb = "would be" if arguments.flag("--check") and done.changed else "is"
    print(f"{name}: {done.unit} {verb} generation {done.generation}")
    for note in done.notes:
        print(f"  {note}")
    return 0


def adopt(arguments: Arguments, name: str, unit: str) -> Migration:
    """Adopt a unit, or with --check only plan it. Raises CommandError."""
    common.open_state(arguments).close()
    try:
        with explained(), lock.locked(name):
            foreground.refuse_unfinished(name)
            service = loader.load(name, common.services_dir())
            pins = common.pin_dir(arguments)
            return migration.adopt(service, unit, pins, arguments.flag("--check"))
    except (AdoptionError, NotHooked) as error:
        raise CommandError(str(error)) from error
