# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The fleet's hosts, seen from beside Ansible."""

from __future__ import annotations

import json
import re
from pathlib import Path

from testing.analysis import StoppedUnit
from testing.processes import FLEET, output

# systemd's journal message "Deactivated successfully."
UNIT_SUCCESS = "7ad2d189f7e94e70a38c781354912448"


def addresses(inventory: Path) -> dict[str, str]:
    """Return address by host name from an inventory that `fleet inventory` wrote."""
    found = re.findall(r"^(\S+) ansible_host=(\S+)$", inventory.read_text(), re.MULTILINE)
    return dict(found)


def _on_host(host: str, *command: str) -> str:
    index = host.lstrip("abcdefghijklmnopqrstuvwxyz")
    return output([FLEET, "sh", index, *command])


def stopped_unit(host: str, unit: str) -> StoppedUnit:
    """Return how and when a unit ended.

    systemd deletes the times of a stopped instance of a template; the journal has them.
    """
    shown = _on_host(host, "systemctl", "show", "--property=ActiveState,Result", unit)
    properties = dict(line.split("=", 1) for line in shown.splitlines())
    state = properties["ActiveState"]
    if properties["Result"] != "success":
        state += f", {properties['Result']}"
    _on_host(host, "journalctl", "--sync")  # journald may not have read the last messages yet
    journal = _on_host(
        host,
        *("journalctl", "--quiet", "--output=json", f"UNIT={unit}", f"MESSAGE_ID={UNIT_SUCCESS}"),
    )
    ends = [int(json.loads(line)["__MONOTONIC_TIMESTAMP"]) / 1e6 for line in journal.splitlines()]
    return StoppedUnit(unit, ends[-1] if ends and state == "inactive" else None, state)
