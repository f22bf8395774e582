# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The first instance of a service, started now and with the host, and the service's end.

NAME-first.service starts the first instance of a service that the collection's role defines. All
others have udpgrm-first@.service, a unit of the role and the packages.
A predecessor is what the host starts at boot until the service's first restart has finished: a
restart that is rolled back changes nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

from udpgrm.restart import former, release, statedir, systemd
from udpgrm.restart.migration import Migration
from udpgrm.restart.systemd import SystemdError


class Changes:
    """Changes of units and files: done, or only listed where dry. names: what has changed."""

    def __init__(self, dry: bool) -> None:
        """Begin without a change."""
        self.dry = dry
        self.names: list[str] = []

    def note(self, name: str) -> None:
        """List a unit or file."""
        if name not in self.names:
            self.names.append(name)

    def unit(self, verb: str, unit: str) -> None:
        """Start, stop, enable or disable a unit. Raises SystemdError."""
        self.note(unit)
        if not self.dry:
            systemd.change(verb, unit)

    def remove(self, path: Path) -> None:
        """Delete a file. Raises OSError."""
        self.note(str(path))
        if not self.dry:
            path.unlink()


def instances(name: str) -> list[str]:
    """Return the units of a service's running instances."""
    return systemd.running(f"{name}@*.service")


def start_or_adopt(
    name: str,
    unit: Optional[str],
    changes: Changes,
    adopt: Callable[[str], Migration],
    document: Callable[[], dict[str, Any]],
) -> list[str]:
    """Start the first instance, or adopt a unit that serves and is in no generation.

    Once the unit was replaced, disable it. adopt: adopts a unit; document: returns the service
    as `udpgrm status` does. Return notes for the operator. Raises SystemdError.
    """
    if unit is None:
        _start(name, changes)
        return []
    if systemd.running(unit):
        if not instances(name):
            return _adopt(name, unit, changes, adopt)
        if not is_replaced(document()):
            return []
    _start(name, changes)
    if systemd.starts_at_boot(unit):
        changes.unit("disable", unit)
    if not changes.dry:
        former.discard_predecessor(name)
    return []


def _start(name: str, changes: Changes) -> None:
    """Start the first instance of a service that has none, now and with the host.

    Raises SystemdError, with the last lines of the instance's log.
    """
    first = _first(name)
    if not systemd.starts_at_boot(first):
        changes.unit("enable", first)
    if instances(name):
        return
    try:
        # the packages' unit stays active, whatever becomes of the instance
        changes.unit("restart" if systemd.running(first) else "start", first)
    except SystemdError as error:
        raise SystemdError(f"{error}; {systemd.failure(f'{name}@1.service')}") from error


def _adopt(name: str, unit: str, changes: Changes, adopt: Callable[[str], Migration]) -> list[str]:
    done = adopt(unit)
    if done.changed:
        changes.note(unit)
    if not changes.dry and former.predecessor(name) != unit:
        former.save_predecessor(name, unit)
    return done.notes if done.changed else []


def is_replaced(document: dict[str, Any]) -> bool:
    """Return whether an instance of the service's template serves, and no restart may roll back."""
    working = [
        generation["instance"]
        for group in document["groups"]
        for generation in group["generations"]
        if generation["state"] == "working" and generation["sockets"]
    ]
    is_own = all(unit.startswith(f"{document['name']}@") for unit in working)
    return bool(working) and is_own and not release.is_unfinished(document["restart"])


def stop(name: str, changes: Changes) -> None:
    """Stop the instances of a service, and delete the state of its restarts.

    Else the journal of its last restart would give instances of a later service of this name a
    wrong release. Raises SystemdError, OSError.
    """
    units = _units(name)
    for unit in filter(systemd.starts_at_boot, units):
        changes.unit("disable", unit)
    for unit in [*itertools.chain(*map(systemd.running, units)), *instances(name)]:
        changes.unit("stop", unit)
    for mark in ".@":  # names of services have neither character
        for path in sorted(statedir.directory().glob(f"{name}{mark}*")):
            changes.remove(path)


def disable(name: str) -> None:
    """Disable the unit that needs the service's definition. Raises SystemdError."""
    _, shared = _units(name)
    if systemd.starts_at_boot(shared):
        systemd.change("disable", shared)


def _units(name: str) -> tuple[str, str]:
    """Return the units that may start the first instance: the role's own, and the shared one.

    A service that began with the latter may have got the former since, and both are enabled.
    """
    return f"{name}-first.service", f"udpgrm-first@{name}.service"


def _first(name: str) -> str:
    own, packages = _units(name)
    return packages if systemd.exists(packages) and not systemd.exists(own) else own
