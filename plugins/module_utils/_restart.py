# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The work of udpgrm_restart: begin, resume or roll back a restart on the host, and wait."""

from __future__ import annotations

import dataclasses
import time
import typing as t

from ansible_collections.udpgrm.fleet.plugins.module_utils import _claim, _release
from ansible_collections.udpgrm.fleet.plugins.module_utils._host import (
    Host,
    HostError,
    JsonObject,
)
from ansible_collections.udpgrm.fleet.plugins.module_utils._service import (
    FINISHED,
    GRACE_S,
    ROLLED_BACK,
    Restart,
    look,
    measure,
)

VERIFIED = "verified"
_FIRST_POLL_S = 0.1
_LAST_POLL_S = 1.0


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
    # The run of the playbook that this is part of.
    rollout: _claim.Rollout | None = None

    def start(self) -> JsonObject:
        """Restart the service unless it runs the release. Raises HostError, Unsuccessful, Claimed."""
        if self.rollout is not None:
            _claim.check(self.service, self.rollout)
        restart = look(self.host, self.service)
        if restart.journal is not None and restart.unfinished and not restart.drains:
            taken = self._take_up(restart, restart.journal, strict=True)
            restart = look(self.host, self.service)
            known = _release.recorded(self.service, restart.journal)
            if self.check or not (restart.verified and restart.unit):
                return taken
            if known in (None, self._wanted(restart.unit)):
                return taken
            # it is of an earlier release, and does not prevent this restart
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
        measured = [measure(restart)]
        with _release.locked(self.service):
            is_ours = _begun(look(self.host, self.service)) == _begun(restart)
            if is_ours:
                self._claim()
                # the command waits until the restart has begun
                with _release.noted(self.service, _release.Note(wanted, time.time())):
                    self.host.begin_restart(self.service, resume=False)
        if not is_ours:
            return self.start()  # another restart has begun meanwhile
        return self._ended(True, self._await(), measured, states)

    def resume(self) -> JsonObject:
        """Resume a restart that was interrupted or has failed, if there is one. Raises as start does."""
        restart = look(self.host, self.service)
        if restart.journal is not None and restart.unfinished:
            return self._take_up(restart, restart.journal, strict=False)
        return self._result(False, restart)

    def roll_back(self) -> JsonObject:
        """Roll back to the instance that drains. Raises as start does."""
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
            measured = [measure(restart)]
            return self._result(True, restart, measured=measured, **states)
        why = restart.reason or "the old instance has ended meanwhile"
        raise Unsuccessful(f"{self.service}: not rolled back: {why}", self._result(True, restart))

    def _claim(self) -> None:
        if self.rollout is not None:
            _claim.take(self.service, self.rollout)

    def _wanted(self, unit: str) -> str:
        """Return the release that is asked for; a unit is an instance of the service."""
        return self.release or _release.fingerprint(
            self.service, self.read_unit(_template_of(unit))
        )

    def _release_of(self, restart: Restart, working: int | None) -> str | None:
        """Return the release of the instance that serves."""
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
            # a restart that continues is waited for, which changes nothing
            states["before"] = states["after"]
        if self.check:
            plan = {key: journal[key] for key in ("from_generation", "to_generation")}
            more = {} if restart.running else {"plan": plan}
            return self._result(not restart.running, restart, **more, **states)
        measured = [measure(restart)]
        with _release.locked(self.service):
            self._claim()
        if not restart.running:
            self.host.begin_restart(self.service, resume=True)
        return self._ended(not restart.running, self._await(), measured, states)

    def _await(self, back: bool = False) -> Restart:
        """Poll until the wanted state is reached. Raises HostError if no process runs the restart any longer."""
        delay, idle = _FIRST_POLL_S, 0.0
        while True:
            restart = look(self.host, self.service)
            if restart.outcome is not None:
                return restart
            if self.wait == VERIFIED and ((restart.verified and not back) or restart.undoing):
                return restart
            idle = 0.0 if restart.running else idle + delay
            if idle > GRACE_S:
                step = "its begin" if restart.journal is None else restart.journal["step"]
                raise HostError(
                    f"{self.service}: the restart was interrupted in {step}; state=resumed continues with it"
                )
            self.sleep(delay)
            delay = min(_LAST_POLL_S, delay * 1.5)

    def _ended(
        self, changed: bool, restart: Restart, measured: list[JsonObject], states: JsonObject
    ) -> JsonObject:
        journal = restart.journal or {}
        if changed:
            # the plan may have changed until the restart began
            states["before"]["generation"] = journal.get("from_generation")
            states["after"]["generation"] = journal.get("to_generation")
        measured.append(measure(restart))
        result = self._result(changed, restart, measured=measured, **states)
        if restart.verified:
            return result
        what = {ROLLED_BACK: "was rolled back", None: "is being rolled back"}.get(
            restart.outcome, "has failed"
        )
        raise Unsuccessful(f"{self.service}: the restart {what}: {restart.reason}", result)

    def _result(self, changed: bool, restart: Restart, **more: t.Any) -> JsonObject:
        result = {
            "changed": changed,
            "service": self.service,
            "restart": restart.journal,
            "serves": restart.evidence,
            **more,
        }
        if "before" in more:
            result["diff"] = {"before": more["before"], "after": more["after"]}
        return result


class Unsuccessful(Exception):
    """Raised when a restart did not succeed; has the result for the task."""

    def __init__(self, message: str, result: JsonObject) -> None:
        super().__init__(message)
        self.result = result


def _template_of(unit: str) -> str:
    """Return the template unit of an instance, or the unit itself if it has no template."""
    stem, at, instance = unit.partition("@")
    return unit if not at else f"{stem}@.{instance.rpartition('.')[2]}"
