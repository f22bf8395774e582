# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What udpgrm_restart does: begin a restart on the host, take one up, go back, and wait."""

from __future__ import annotations

import dataclasses
import time
import typing as t

from ansible_collections.udpgrm.fleet.plugins.module_utils import _release
from ansible_collections.udpgrm.fleet.plugins.module_utils._address import parse_address
from ansible_collections.udpgrm.fleet.plugins.module_utils._host import (
    Host,
    HostError,
    JsonObject,
    groups_at,
)

VERIFIED = "verified"
FINISHED = "finished"
ROLLED_BACK = "rolled_back"
# Steps after the promotion was verified: only flows of the old instance are waited for.
_AFTER_VERIFY = ("drain", "stop")
_UNDO = ("demote", "drain_new", "stop_new")
_DISPATCH_ERRORS = (
    "rx_internal_state_error",
    "rx_flow_rg_conflict",
    "rx_new_flow_working_gen_dispatch_error",
)
_MOVED = "tx_flow_update_conflict"
_FIRST_POLL_S = 0.1
_LAST_POLL_S = 1.0
# Between two processes that work at one restart, nobody does for a moment.
_GRACE_S = 3.0


@dataclasses.dataclass
class Restart:
    """A service and its last restart, as C(udpgrm status) has them; C(journal) None: there was none."""

    journal: JsonObject | None
    groups: list[JsonObject]

    @property
    def running(self) -> bool:
        """Whether a process works at it now."""
        return self.journal is not None and bool(self.journal["running"])

    @property
    def outcome(self) -> str | None:
        """How it ended; None: it has not, or there was none."""
        return None if self.journal is None else self.journal["outcome"]

    @property
    def unfinished(self) -> bool:
        """Whether something is left to be done."""
        return self.journal is not None and self.outcome not in (FINISHED, ROLLED_BACK)

    @property
    def verified(self) -> bool:
        """Whether new flows go to the new instance, and that was seen to be well."""
        if self.journal is None:
            return False
        return self.outcome == FINISHED or (
            self.outcome is None and self.journal["step"] in _AFTER_VERIFY
        )

    @property
    def serves(self) -> bool:
        """Whether its new instance is the one that all new flows go to, and that was seen to be well."""
        return self.verified and all(
            group["working_generation"] == (self.journal or {}).get("to_generation")
            for group in self.groups
        )

    @property
    def drains(self) -> bool:
        """Whether the next restart may begin, while the old instance drains on."""
        return self.journal is not None and self.outcome is None and self.journal["step"] == "drain"

    @property
    def undoing(self) -> bool:
        """Whether it is on its way back."""
        return self.journal is not None and self.journal["step"] in _UNDO

    @property
    def reason(self) -> str:
        """Why it did not go on; empty when it did."""
        steps = [] if self.journal is None else self.journal["steps"]
        return next((step["reason"] for step in steps if step["reason"]), "")

    @property
    def unit(self) -> str:
        """An instance that has sockets; empty when none has."""
        found = (item["instance"] for group in self.groups for item in group["generations"])
        return next(filter(None, found), "")

    @property
    def flows(self) -> dict[str, int]:
        """Flows by generation, of those that have sockets and whose flows are counted."""
        flows: dict[str, int] = {}
        for group in self.groups:
            for item in group["generations"]:
                if item["flows"] is not None and item["sockets"]:
                    number = str(item["generation"])
                    flows[number] = flows.get(number, 0) + item["flows"]
        return flows

    @property
    def dropped(self) -> int:
        """Packets that full receive queues dropped during the restart, as far as it has looked."""
        worst = 0
        for step in [] if self.journal is None else self.journal["steps"]:
            for part in ("counters", "budget"):
                worst = max(worst, step["evidence"].get(part, {}).get("dropped", 0))
        return worst


def look(host: Host, service: str) -> Restart:
    """Read how a service is. Raises HostError."""
    for item in host.status(service)["services"]:
        if item["name"] == service:
            return Restart(item["restart"], item["groups"])
    raise HostError(f"udpgrm status: no service {service!r}")


def measure(metrics: JsonObject | None, restart: Restart) -> JsonObject:
    """A service's counters and flows at a moment, from what C(udpgrm metrics) says; None: nothing.

    V(errors): packets that were not given to the socket they belong to; V(moved): answers on
    flows of another socket; V(dropped): packets that full receive queues dropped since the
    restart began, as far as the host has looked.
    """
    addresses = {parse_address(group["address"]) for group in restart.groups}
    found = [] if metrics is None else groups_at(metrics, addresses)
    return {
        "at": time.time(),
        "processed": sum(group["metrics"]["rx_processed_total"] for group in found),
        "errors": sum(group["metrics"][name] for group in found for name in _DISPATCH_ERRORS),
        "moved": sum(group["metrics"][_MOVED] for group in found),
        "dropped": restart.dropped,
        "flows": restart.flows,
    }


def await_end(host: Host, service: str, limit: float) -> JsonObject:
    """Wait until a service's restart has ended, C(limit) seconds at most. Raises HostError."""
    deadline = time.monotonic() + limit
    idle = 0
    while True:
        restart = look(host, service)
        step = None if restart.journal is None else restart.journal["step"]
        ended = step is None or restart.outcome is not None
        idle = 0 if restart.running else idle + 1
        if not ended and idle > _GRACE_S:
            raise HostError(
                f"{service}: the restart was interrupted in {step}; state=resumed goes on with it"
            )
        left = deadline - time.monotonic()
        # where nobody works at it, it takes some looks to tell whether that stays so
        if ended or (left <= 0 and not (idle and limit)):
            break
        time.sleep(_LAST_POLL_S if left <= 0 else min(_LAST_POLL_S, left))
    journal = restart.journal or {}
    going = journal.get("to_generation" if restart.undoing else "from_generation")
    return {
        "drained": ended,
        "flows": None if going is None else restart.flows.get(str(going)),
        "generation": going,
        "restart": restart.journal,
        "measured": [measure(host.metrics(), restart)],
    }


def _begun(restart: Restart) -> float | None:
    return None if restart.journal is None else restart.journal["started"]


@dataclasses.dataclass
class Task:
    """One call of the module. C(release) None: a fingerprint is taken."""

    host: Host
    service: str
    release: str | None
    wait: str
    check: bool
    # Returns the text of a unit's files.
    read_unit: t.Callable[[str], str]
    sleep: t.Callable[[float], None] = time.sleep

    def start(self) -> JsonObject:
        """Have the service run an instance of the release. Raises HostError, Unsuccessful."""
        restart = look(self.host, self.service)
        if restart.journal is not None and restart.unfinished and not restart.drains:
            taken = self._take_up(restart, restart.journal, strict=True)
            restart = look(self.host, self.service)
            known = _release.recorded(self.service, restart.journal)
            if self.check or not (restart.verified and restart.unit):
                return taken
            if known in (None, self._wanted(restart.unit)):
                return taken
            # it is of an earlier release, and in nobody's way now
        plan = self.host.plan(self.service)
        wanted = self._wanted(plan["instance"])
        before = self._release_of(restart, plan["from_generation"])
        if restart.journal is not None and restart.drains and before == wanted:
            return self._take_up(restart, restart.journal, strict=True)
        states = {
            "before": {"generation": plan["from_generation"], "release": before},
            "after": {"generation": plan["to_generation"], "release": wanted},
        }
        if before == wanted:
            states["after"] = states["before"]
            return self._result(False, restart, **states)
        if self.check:
            return self._result(True, restart, plan=plan, **states)
        measured = [measure(self.host.metrics(), restart)]
        with _release.locked(self.service):
            is_ours = _begun(look(self.host, self.service)) == _begun(restart)
            if is_ours:
                # the command waits until the restart has begun
                with _release.noted(self.service, _release.Note(wanted, time.time())):
                    self.host.begin_restart(self.service, resume=False)
        if not is_ours:
            return self.start()  # somebody has begun one meanwhile
        return self._ended(True, self._await(), measured, states)

    def resume(self) -> JsonObject:
        """Resume a restart that was interrupted or has failed; nothing when none was. Raises as start does."""
        restart = look(self.host, self.service)
        if restart.journal is not None and restart.unfinished:
            return self._take_up(restart, restart.journal, strict=False)
        return self._result(False, restart)

    def roll_back(self) -> JsonObject:
        """Go back to the instance that drains. Raises as start does."""
        restart = look(self.host, self.service)
        if restart.outcome == ROLLED_BACK:
            return self._result(False, restart)
        if restart.journal is None or restart.outcome == FINISHED:
            raise HostError(
                f"{self.service}: nothing to go back to: "
                + (
                    "there was no restart"
                    if restart.journal is None
                    else "the old instance has ended"
                )
            )
        states = {
            "before": {"generation": restart.journal["to_generation"]},
            "after": {"generation": restart.journal["from_generation"]},
        }
        if self.check:
            return self._result(True, restart, **states)
        self.host.begin_rollback(self.service)
        restart = self._await(back=True)
        if restart.outcome == ROLLED_BACK or (restart.undoing and restart.outcome is None):
            measured = [measure(self.host.metrics(), restart)]
            return self._result(True, restart, measured=measured, **states)
        why = restart.reason or "the old instance has ended meanwhile"
        raise Unsuccessful(f"{self.service}: not rolled back: {why}", self._result(True, restart))

    def _wanted(self, unit: str) -> str:
        """The release that is asked for, where a unit is an instance of the service."""
        return self.release or _release.fingerprint(
            self.service, self.read_unit(_template_of(unit))
        )

    def _release_of(self, restart: Restart, working: int | None) -> str | None:
        """The release of the instance that serves."""
        journal = restart.journal
        if journal is None or not (restart.outcome == FINISHED or restart.drains):
            return None
        if journal["to_generation"] != working:
            return None
        return _release.recorded(self.service, journal)

    def _take_up(self, restart: Restart, journal: JsonObject, strict: bool) -> JsonObject:
        known = _release.recorded(self.service, journal)
        if strict and self.release is not None and known != self.release:
            raise HostError(
                f"{self.service}: a restart to another release ({known or 'unknown'}) "
                f"{'runs' if restart.running else 'is unfinished'} in {journal['state']}: "
                f"wait for it, or take it up with state=resumed"
            )
        states = {
            "before": {"generation": journal["from_generation"], "release": None},
            "after": {"generation": journal["to_generation"], "release": known},
        }
        if restart.running:
            # what goes on is waited for, which changes nothing
            states["before"] = states["after"]
        if self.check:
            plan = {key: journal[key] for key in ("from_generation", "to_generation")}
            more = {} if restart.running else {"plan": plan}
            return self._result(not restart.running, restart, **more, **states)
        measured = [measure(self.host.metrics(), restart)]
        if not restart.running:
            self.host.begin_restart(self.service, resume=True)
        return self._ended(not restart.running, self._await(), measured, states)

    def _await(self, back: bool = False) -> Restart:
        """Poll until there is what is waited for. Raises HostError when nobody works at it any more."""
        delay, idle = _FIRST_POLL_S, 0.0
        while True:
            restart = look(self.host, self.service)
            if restart.outcome is not None:
                return restart
            if self.wait == VERIFIED and ((restart.verified and not back) or restart.undoing):
                return restart
            idle = 0.0 if restart.running else idle + delay
            if idle > _GRACE_S:
                step = "its begin" if restart.journal is None else restart.journal["step"]
                raise HostError(
                    f"{self.service}: the restart was interrupted in {step}; state=resumed goes on with it"
                )
            self.sleep(delay)
            delay = min(_LAST_POLL_S, delay * 1.5)

    def _ended(
        self, changed: bool, restart: Restart, measured: list[JsonObject], states: JsonObject
    ) -> JsonObject:
        journal = restart.journal or {}
        if changed:
            # what was planned may have changed until it began
            states["before"]["generation"] = journal.get("from_generation")
            states["after"]["generation"] = journal.get("to_generation")
        measured.append(measure(self.host.metrics(), restart))
        result = self._result(changed, restart, measured=measured, **states)
        if restart.verified:
            return result
        word = {ROLLED_BACK: "was rolled back", None: "is being rolled back"}.get(
            restart.outcome, "has failed"
        )
        raise Unsuccessful(f"{self.service}: the restart {word}: {restart.reason}", result)

    def _result(self, changed: bool, restart: Restart, **more: t.Any) -> JsonObject:
        result = {
            "changed": changed,
            "service": self.service,
            "restart": restart.journal,
            **more,
        }
        if "before" in more:
            result["diff"] = {"before": more["before"], "after": more["after"]}
        return result


class Unsuccessful(Exception):
    """A restart ended otherwise than it should; with the result for the task."""

    def __init__(self, message: str, result: JsonObject) -> None:
        super().__init__(message)
        self.result = result


def _template_of(unit: str) -> str:
    """The template unit of an instance; a unit that is none, itself."""
    stem, at, instance = unit.partition("@")
    return unit if not at else f"{stem}@.{instance.rpartition('.')[2]}"
