# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The work of udpgrm_restart: begin, resume or roll back a restart on the host, and report it."""

from __future__ import annotations

import dataclasses
import time
import typing as t

from ansible_collections.udpgrm.fleet.plugins.module_utils import _claim
from ansible_collections.udpgrm.fleet.plugins.module_utils._host import (
    Host,
    HostError,
    JsonObject,
    service_name,
)
from ansible_collections.udpgrm.fleet.plugins.module_utils._service import (
    FINISHED,
    ROLLED_BACK,
    Restart,
    info,
    measure,
    read_restart,
    refuse_interrupted,
)

VERIFIED = "verified"


@dataclasses.dataclass
class Task:
    """A call of the module. C(release) None: the host takes a fingerprint."""

    host: Host
    service: str
    release: str | None
    wait: str
    check: bool
    # The run of the playbook that this is part of.
    rollout: _claim.Rollout | None = None
    # The service at the end.
    last: Restart = dataclasses.field(init=False)
    # Notes of the host's plan for the operator.
    notes: list[str] = dataclasses.field(default_factory=list)

    def start(self) -> JsonObject:
        """Restart the service unless it runs the release. Raises HostError, Unsuccessful, Claimed."""
        if self.rollout is not None:
            _claim.check(self.service, self.rollout)
        plan = self.host.plan(self.service, self.release)
        action, self.notes = plan["action"], plan.get("notes", [])
        before = {"generation": plan["from_generation"], "release": plan["from_release"]}
        after = {"generation": plan["to_generation"], "release": plan["release"]}
        if action == "none":
            after = before
        if action == "wait":
            # a restart that continues is waited for, which changes nothing
            before = after
        if self.check or action == "none":
            if action == "resume":
                plan = {key: plan[key] for key in ("from_generation", "to_generation")}
            return self._planned({"plan": plan} if before != after else {}, before, after)
        return self._run(
            lambda: self.host.restart(self.service, self.release, self.wait), before, after
        )

    def resume(self) -> JsonObject:
        """Resume a restart that was interrupted or has failed, if there is one. Raises as start does."""
        restart = read_restart(self.host, self.service)
        journal = restart.journal
        if journal is None or not restart.unfinished:
            return self._result(False, restart)
        after = {"generation": journal["to_generation"], "release": journal["release"]}
        before = {"generation": journal["from_generation"], "release": journal["from_release"]}
        if restart.running:
            before = after
        if self.check:
            plan = {key: journal[key] for key in ("from_generation", "to_generation")}
            return self._planned({} if restart.running else {"plan": plan}, before, after)
        work = self.host.follow if restart.running else self.host.resume
        return self._run(lambda: work(self.service, self.wait), before, after)

    def roll_back(self) -> JsonObject:
        """Roll back to the instance that drains. Raises as start does."""
        restart = read_restart(self.host, self.service)
        if restart.outcome == ROLLED_BACK:
            return self._result(False, restart)
        if restart.journal is None or restart.outcome == FINISHED:
            reason = (
                "there was no restart" if restart.journal is None else "the old instance has ended"
            )
            raise HostError(f"{self.service}: nothing to go back to: {reason}")
        states = {
            "before": {"generation": restart.journal["to_generation"]},
            "after": {"generation": restart.journal["from_generation"]},
        }
        if self.check:
            return self._result(True, restart, **states)
        self._refuse_interrupted(self.host.roll_back(self.service, self.wait))
        restart = read_restart(self.host, self.service)
        if restart.outcome == ROLLED_BACK or (restart.undoing and restart.outcome is None):
            return self._result(True, restart, measured=[measure(restart)], **states)
        raise Unsuccessful(
            f"{self.service}: not rolled back: {restart.reason}", self._result(True, restart)
        )

    def _planned(self, plan: JsonObject, before: JsonObject, after: JsonObject) -> JsonObject:
        restart = read_restart(self.host, self.service)
        return self._result(before != after, restart, before=before, after=after, **plan)

    def _run(
        self, work: t.Callable[[], JsonObject], before: JsonObject, after: JsonObject
    ) -> JsonObject:
        """Have the host restart the service, and report how that went. Raises as start does."""
        measured = [measure(read_restart(self.host, self.service))]
        if self.rollout is not None:
            _claim.take(self.service, self.rollout)
        answer = work()
        self._refuse_interrupted(answer)
        restart = read_restart(self.host, self.service)
        measured.append(measure(restart))
        if answer["changed"]:
            # the plan may have changed until the restart began
            before = {**before, "generation": answer["from_generation"]}
            after = {"generation": answer["to_generation"], "release": answer["release"]}
        result = self._result(
            answer["changed"], restart, measured=measured, before=before, after=after
        )
        if restart.verified:
            return result
        what = {ROLLED_BACK: "was rolled back", None: "is being rolled back"}.get(
            restart.outcome, "has failed"
        )
        raise Unsuccessful(f"{self.service}: the restart {what}: {restart.reason}", result)

    def _refuse_interrupted(self, answer: JsonObject) -> None:
        """Raise HostError if no process runs the restart any longer, before what is waited for."""
        restart = Restart(self.service, answer, [])
        is_enough = self.wait == VERIFIED and (restart.verified or restart.undoing)
        if not is_enough:
            refuse_interrupted(self.service, answer)

    def _result(self, changed: bool, restart: Restart, **more: t.Any) -> JsonObject:
        self.last = restart
        result = {
            "changed": changed,
            "service": self.service,
            "restart": restart.journal,
            "serves": restart.evidence,
            "notes": self.notes,
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


def inspect_after_bake(host: Host, rollout: dict[str, t.Any]) -> dict[str, t.Any]:
    """Return the services of a rollout after its bake; one that cannot be read has failed, not the restart."""
    time.sleep(rollout["bake"])
    inspected: dict[str, t.Any] = {}
    for service in rollout["inspect"]:
        try:
            inspected[service] = {"changed": False, **info(host, service_name(service))}
        except HostError as error:
            inspected[service] = {"changed": False, "failed": True, "msg": str(error)}
    return inspected
