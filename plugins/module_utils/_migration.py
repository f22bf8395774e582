# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The migration of a unit that served without udpgrm to a service: adopt the unit, and in the end start the service at boot.

Until the service's first restart has finished, the unit is what the host starts at boot: a restart that is rolled back
changes nothing. The host notes the unit meanwhile, so that the module that sees the restart's end can hand over.
"""

from __future__ import annotations

import contextlib
import pathlib

from ansible_collections.udpgrm.fleet.plugins.module_utils._claim import state_directory
from ansible_collections.udpgrm.fleet.plugins.module_utils._host import Host, HostError
from ansible_collections.udpgrm.fleet.plugins.module_utils._instances import Run, Systemd, start
from ansible_collections.udpgrm.fleet.plugins.module_utils._service import Restart, look


def _path(service: str) -> pathlib.Path:
    return state_directory() / f"{service}.adopted"


def noted(service: str) -> str | None:
    """Return the unit that a service is to replace; None: there is none."""
    try:
        return _path(service).read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def _note(service: str, unit: str) -> None:
    path = _path(service)
    draft = path.with_suffix(".adopted.new")
    try:
        draft.write_text(f"{unit}\n", encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise HostError(f"{path}: {error.strerror}") from error


def replace(systemd: Systemd, host: Host | None, service: str, unit: str) -> list[str]:
    """Adopt a unit that serves and is in no generation; hand over once the service's own instance has replaced it.

    If the unit does not run, the service is started. C(host) None: in check mode, where unit and definition are only
    planned. Returns notes for the operator. Raises HostError.
    """
    own = systemd.live(service)
    if systemd.live_unit(unit):
        if not own:
            return _adopt(systemd, host, service, unit)
        if host is None or not _is_replaced(look(host, service)):
            return []
    start(systemd, service)
    _disable(systemd, service, unit)
    return []


def _adopt(systemd: Systemd, host: Host | None, service: str, unit: str) -> list[str]:
    if host is None:
        systemd.changed.append(unit)
        return []
    document = host.adopt(service, unit, systemd.check)
    if document["changed"]:
        systemd.changed.append(unit)
    if not systemd.check and noted(service) != unit:
        _note(service, unit)
    return list(document["notes"]) if document["changed"] else []


def _is_replaced(restart: Restart) -> bool:
    """Return whether an instance of the service's own template is active, and no restart may roll back."""
    working = [
        item["instance"]
        for group in restart.groups
        for item in group["generations"]
        if item["state"] == "working" and item["sockets"]
    ]
    is_own = all(name.startswith(f"{restart.service}@") for name in working)
    return bool(working) and is_own and not restart.unfinished


def _disable(systemd: Systemd, service: str, unit: str) -> None:
    if systemd.starts_at_boot(unit):
        systemd.change("disable", unit)
    if not systemd.check:
        with contextlib.suppress(FileNotFoundError):
            _path(service).unlink()


def hand_over(run: Run, host: Host, service: str, check: bool) -> list[str]:
    """Start the service at boot instead of the unit that its first restart has replaced, if it has.

    Returns the units that were enabled or disabled. Raises HostError.
    """
    unit = noted(service)
    if unit is None or check or not _is_replaced(look(host, service)):
        return []
    systemd = Systemd(run, check)
    start(systemd, service)
    _disable(systemd, service, unit)
    return systemd.changed
