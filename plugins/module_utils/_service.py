# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The state of a host's service and its last restart: reading, measuring, waiting for its end."""

from __future__ import annotations

import dataclasses
import time

from ansible_collections.udpgrm.fleet.plugins.module_utils import _claim
from ansible_collections.udpgrm.fleet.plugins.module_utils._host import (
    Host,
    HostError,
    JsonObject,
    boot_id,
)

FINISHED = "finished"
ROLLED_BACK = "rolled_back"
# Steps after the promotion was verified: only flows of the old instance are waited for.
_AFTER_VERIFY = ("drain", "stop")
UNDO = ("demote", "drain_new", "stop_new")
_DISPATCH_ERRORS = (
    "rx_internal_state_error",
    "rx_flow_rg_conflict",
    "rx_new_flow_working_gen_dispatch_error",
)


@dataclasses.dataclass
class Restart:
    """A service and its last restart, as C(udpgrm status) has them; C(journal) None: there was none."""

    service: str
    journal: JsonObject | None
    groups: list[JsonObject]
    # The unit that the service is to replace.
    adopted: str | None = None
    # When the host's state was read, in seconds since the epoch.
    at: float = dataclasses.field(default_factory=time.time)

    @property
    def running(self) -> bool:
        """Return whether a process runs the restart now."""
        return self.journal is not None and bool(self.journal["running"])

    @property
    def outcome(self) -> str | None:
        """Return the restart's outcome; None: it has not ended, or there was none."""
        return None if self.journal is None else self.journal["outcome"]

    @property
    def unfinished(self) -> bool:
        """Return whether something remains to be done."""
        return self.journal is not None and self.outcome not in (FINISHED, ROLLED_BACK)

    @property
    def verified(self) -> bool:
        """Return whether new flows go to the new instance, and that was verified."""
        if self.journal is None:
            return False
        return self.outcome == FINISHED or (
            self.outcome is None and self.journal["step"] in _AFTER_VERIFY
        )

    @property
    def serves(self) -> bool:
        """Return whether all new flows go to its new instance, and that was verified."""
        return self.verified and all(
            group["working_generation"] == (self.journal or {}).get("to_generation")
            for group in self.groups
        )

    @property
    def evidence(self) -> JsonObject:
        """Return the instances that serve, for a comparison with an earlier state."""
        working = {group["working_generation"] for group in self.groups}
        return {
            "generations": sorted(number for number in working if number is not None),
            "release": None if self.journal is None or not self.serves else self.journal["release"],
            "boot_id": boot_id(),
        }

    @property
    def held(self) -> bool:
        """Return whether the old instance has drained, and is kept for a rollback."""
        last = (self.journal or {}).get("steps", [])[-1:]
        return self.outcome is None and any("hold" in step["evidence"] for step in last)

    @property
    def undoing(self) -> bool:
        """Return whether it is being rolled back."""
        return self.journal is not None and self.journal["step"] in UNDO

    @property
    def reason(self) -> str:
        """Return why it did not continue; empty if it did."""
        steps = [] if self.journal is None else self.journal["steps"]
        return next((step["reason"] for step in steps if step["reason"]), "")

    @property
    def flows(self) -> dict[str, int]:
        """Return flows by generation, of generations with sockets whose flows are counted."""
        flows: dict[str, int] = {}
        for group in self.groups:
            for item in group["generations"]:
                if item["flows"] is not None and item["sockets"]:
                    number = str(item["generation"])
                    flows[number] = flows.get(number, 0) + item["flows"]
        return flows

    @property
    def dropped(self) -> int:
        """Return the packets that full receive queues dropped during the restart, as far as it has counted."""
        worst = 0
        for step in [] if self.journal is None else self.journal["steps"]:
            for part in ("counters", "budget"):
                worst = max(worst, step["evidence"].get(part, {}).get("dropped", 0))
        return worst


def read_restart(host: Host, service: str) -> Restart:
    """Read the state of a service. Raises HostError."""
    for item in host.status(service)["services"]:
        if item["name"] == service:
            return Restart(service, item["restart"], item["groups"], item["adopted"])
    raise HostError(f"udpgrm status: no service {service!r}")


def measure(restart: Restart) -> JsonObject:
    """Return a service's counters and flows at the moment of a reading.

    V(errors): packets that were not given to the socket they belong to; V(moved): answers on
    flows of another generation; V(dropped): packets that full receive queues dropped since the
    restart began, as far as the host has counted.
    """
    groups = [group for group in restart.groups if group["metrics"] is not None]
    found = [group["metrics"] for group in groups]
    return {
        "at": restart.at,
        "processed": sum(metrics["rx_processed_total"] for metrics in found),
        "errors": sum(metrics[name] for metrics in found for name in _DISPATCH_ERRORS),
        "moved": sum(group["crossed"] for group in groups),
        "dropped": restart.dropped,
        "flows": restart.flows,
    }


def info(host: Host, service: str | None) -> JsonObject:
    """Return services, one or all, with what serves, the rollout that continues and counters. Raises HostError."""
    document = host.status(service)
    for item in document["services"]:
        restart = Restart(item["name"], item["restart"], item["groups"])
        item["serves"] = restart.evidence
        item["rollout"] = _claim.current(item["name"])
        item["measured"] = measure(restart)
    del document["schema"]
    return document


def hand_over(host: Host, restart: Restart, check: bool) -> list[str]:
    """Start the service at boot instead of the unit that its first restart has replaced, if it has.

    Returns the units that were enabled or disabled, or with C(check) would be. Raises HostError.
    """
    if restart.adopted is None:
        return []
    return list(host.start(restart.service, None, check)["units"])


def refuse_interrupted(service: str, journal: JsonObject) -> None:
    """Raise HostError if a restart has not ended, and no process of the host runs it any longer."""
    if journal["outcome"] is None and not journal["running"]:
        raise HostError(
            f"{service}: the restart was interrupted in {journal['step']}; state=resumed continues with it"
        )


def await_end(host: Host, service: str, limit: int) -> Restart:
    """Wait until a service's restart has ended but for a hold, C(limit) seconds at most. Raises HostError."""
    restart = read_restart(host, service)
    if limit and restart.journal is not None and restart.outcome is None and not restart.held:
        refuse_interrupted(service, host.follow(service, FINISHED, limit))
        restart = read_restart(host, service)
    return restart


def drained(restart: Restart) -> JsonObject:
    """Return whether a restart has ended, and what drains else."""
    journal = restart.journal or {}
    going = journal.get("to_generation" if restart.undoing else "from_generation")
    return {
        "drained": restart.journal is None or restart.outcome is not None or restart.held,
        "flows": None if going is None else restart.flows.get(str(going)),
        "generation": going,
        "restart": restart.journal,
        "serves": restart.evidence,
        "measured": [measure(restart)],
    }
