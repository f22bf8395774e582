# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The work of udpgrm_instances: start the first instances of services, or end services, by systemd."""

from __future__ import annotations

import pathlib
import typing as t

from ansible_collections.udpgrm.fleet.plugins.module_utils._claim import state_directory
from ansible_collections.udpgrm.fleet.plugins.module_utils._host import Host, HostError

# Instances that hold or may soon hold sockets.
_LIVE = "--state=active,reloading,activating,deactivating"
_JOURNAL_LINES = 8

# AnsibleModule.run_command.
Run = t.Callable[[list[str]], tuple[int, str, str]]


class Systemd:
    """A host's systemd; C(changed) are the units and files that were changed, or in check mode would be."""

    def __init__(self, run: Run, check: bool) -> None:
        self._run = run
        self.check = check
        self.changed: list[str] = []

    def live(self, service: str) -> list[str]:
        """Return the units of a service's running instances."""
        return self._live(f"{service}@*.service")

    def live_unit(self, unit: str) -> bool:
        """Return whether a unit runs."""
        return self._live(unit) == [unit]

    def _live(self, pattern: str) -> list[str]:
        _status, out, _err = self._run(
            ["systemctl", "list-units", "--plain", "--no-legend", _LIVE, pattern]
        )
        return [line.split()[0] for line in out.splitlines() if line.split()]

    def is_enabled(self, unit: str) -> bool:
        """Return whether a unit is started with the host."""
        return self._run(["systemctl", "is-enabled", "--quiet", unit])[0] == 0

    def starts_at_boot(self, unit: str) -> bool:
        """Return whether a unit exists and is enabled; not if only other units start it."""
        _status, out, _err = self._run(["systemctl", "is-enabled", unit])
        return out.strip() in ("enabled", "enabled-runtime")

    def change(self, action: str, unit: str) -> None:
        """Start, stop, enable or disable a unit. Raises HostError, with its last line in the journal."""
        if unit not in self.changed:
            self.changed.append(unit)
        if self.check:
            return
        status, _out, err = self._run(["systemctl", action, unit])
        if status != 0:
            lines = err.strip().splitlines()
            raise HostError(f"systemctl {action} {unit}: {lines[0] if lines else status}")

    def remove(self, path: pathlib.Path) -> None:
        """Remove a file. Raises HostError."""
        self.changed.append(str(path))
        if self.check:
            return
        try:
            path.unlink()
        except OSError as error:
            raise HostError(f"{path}: {error.strerror}") from error

    def failure(self, unit: str) -> str:
        """Return how a unit's command has ended, and its last message in the journal."""
        _status, out, _err = self._run(
            ["systemctl", "show", "--property=Result,ExecMainCode,ExecMainStatus", unit]
        )
        shown = dict(line.partition("=")[::2] for line in out.splitlines())
        status = shown.get("ExecMainStatus", "?")
        # 2, 3: killed, dumped core (CLD_KILLED, CLD_DUMPED)
        how = "signal" if shown.get("ExecMainCode") in ("2", "3") else "exit code"
        lines = ["--lines", str(_JOURNAL_LINES), "--output=cat", "--no-pager"]
        _status, out, _err = self._run(["journalctl", "--unit", unit, *lines])
        journal = "\n".join(line for line in out.splitlines() if line.strip())
        return (
            f"{unit}: {shown.get('Result', 'failed')}, {how} {status}; its journal ends:\n{journal}"
        )


def start(systemd: Systemd, service: str) -> None:
    """Start the first instance of a service that has none, now and with the host. Raises HostError."""
    first = f"{service}-first.service"
    if not systemd.is_enabled(first):
        systemd.change("enable", first)
    if systemd.live(service):
        return
    try:
        systemd.change("start", first)
    except HostError as error:
        raise HostError(f"{error}\n{systemd.failure(f'{service}@1.service')}") from error


def end(systemd: Systemd, host: Host, service: str) -> None:
    """Stop the instances of a service, unless flows would be lost, and remove its state. Raises HostError.

    The journal of its last restart would give a wrong release of instances of a later service of this name.
    """
    instances = systemd.live(service)
    if instances:
        _refuse_to_lose(host, service, instances)
    first = f"{service}-first.service"
    if systemd.is_enabled(first):
        systemd.change("disable", first)
    for unit in instances:
        systemd.change("stop", unit)
    # names of services have neither character
    for mark in ".@":
        for path in sorted(state_directory().glob(f"{service}{mark}*")):
            systemd.remove(path)


def _refuse_to_lose(host: Host, service: str, instances: list[str]) -> None:
    found = [item for item in host.status()["services"] if item["name"] == service]
    if not found:
        raise HostError(
            f"{service}: {', '.join(instances)} runs, and its flows are unknown without a definition; stop it first"
        )
    [item] = found
    drains = [restart for restart in item["draining"] if restart["outcome"] is None]
    if drains or (item["restart"] is not None and item["restart"]["running"]):
        raise HostError(f"{service}: a restart runs; wait for its end")
    flows = [
        (group["address"], generation["flows"])
        for group in item["groups"]
        for generation in group["generations"]
        if generation["sockets"]
    ]
    uncounted = [address for address, number in flows if number is None]
    if uncounted:
        raise HostError(
            f"{service}: the flows of {', '.join(uncounted)} are not counted; stop the service first"
        )
    total = sum(number for _address, number in flows)
    if total:
        raise HostError(
            f"{service}: {total} flows would be lost; try again when its clients have gone, or stop it first"
        )
