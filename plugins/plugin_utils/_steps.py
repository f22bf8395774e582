# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The steps of a host in a rollout: switch, bake, inspect, roll back, wait; service after service."""

from __future__ import annotations

import dataclasses
import time
import typing as t

from ansible.errors import AnsibleConnectionFailure
from ansible.utils.display import Display
from ansible_collections.udpgrm.fleet.plugins.plugin_utils import (
    _rollout,
    _run,
    _waiting,
)
from ansible_collections.udpgrm.fleet.plugins.plugin_utils._figures import JsonObject

display = Display()
_SAY_EVERY_S = 60.0
#: Keys of a module's result that are dropped: inspections become steps of their own.
_NOT_KEPT = ("invocation", "diff", "inspected", "notes", "warnings")

# Runs a module of the collection on the host; raises AnsibleConnectionFailure.
Execute = t.Callable[[str, dict[str, t.Any]], JsonObject]


@dataclasses.dataclass
class Host:
    """A host of a run. C(steps) are those it has done in this task."""

    name: str
    run: str
    services: list[str]
    execute: Execute
    check: bool
    steps: list[dict[str, t.Any]] = dataclasses.field(default_factory=list)
    #: Notes of the host's restarts for the operator.
    notes: list[str] = dataclasses.field(default_factory=list)

    def switch(self, release: str | None, other_rollout: str, bake: int | None = None) -> bool:
        """Restart the services, one after the other, up to one that fails.

        C(bake): the last one's module waits so many seconds, then inspects all that have switched. Returns whether it has.
        """
        for service in self.services:
            arguments = {"service": service, "release": release, "wait": "verified"}
            mine = self._rollout()
            if bake is not None and service == self.services[-1]:
                mine = {**mine, "bake": bake, "inspect": [*self.switched(), service]}
            result = self._claim("udpgrm_restart", arguments, mine, other_rollout)
            self.notes += [f"{self.name}: {service}: {note}" for note in result.get("notes") or []]
            self._note("switch", service, result)
            if not _rollout.is_well(result):
                if result.get("unreachable") and not self.check:
                    self._inspect_begun(service)
                return False
        inspected = result.get("inspected") or {}
        for service, found in inspected.items():
            self._note("inspect", service, found)
        return bool(inspected)

    def _inspect_begun(self, service: str) -> None:
        """Read a service whose restart this run may have begun as the connection was lost: so it can go back."""
        result = self._call("udpgrm_service_info", {"service": service})
        for found in result.get("services") or []:
            if (found.get("rollout") or {}).get("run") == self.run:
                self._note("inspect", service, result)

    def plan(self, release: str | None, other_rollout: str) -> dict[str, t.Any]:
        """Return the result of a task in check mode: C(restarts), whether there is something to do, C(hooked), whether it may.

        The steps are kept unless there is.
        """
        self.switch(release, other_rollout)
        results = [step["result"] for step in self.steps]
        hooked = all(map(_rollout.is_well, results))
        restarts = hooked and any(
            result.get("changed") or _rollout.continues(result) for result in results
        )
        if restarts:
            self.steps.clear()
        return {**self.result(), "restarts": restarts, "hooked": hooked}

    def fail(self, message: str) -> None:
        """Record that the host is not restarted as a hook has failed."""
        self.steps += _rollout.hook_steps({"failed": True, "msg": message}, self.services)

    def switched(self) -> list[str]:
        """Return the services that have switched in this task."""
        return [step["service"] for step in self.steps if self._has_switched(step["result"])]

    def inspect(self, services: t.Sequence[str]) -> None:
        """Read the state and counters of services that have switched."""
        for service in services:
            self._do("inspect", service, "udpgrm_service_info", {"service": service})

    def back(self, services: t.Sequence[str]) -> None:
        """Roll back if the old instance drains."""
        for service in services:
            arguments = {"service": service, "state": "rolled_back", "wait": "verified"}
            self._do("back", service, "udpgrm_restart", arguments)

    def join(self, services: t.Sequence[str]) -> None:
        """Wait until the restarts have ended."""
        for service in services:
            arguments = {"service": service, "rollout": self.run}

            def execute(given: dict[str, t.Any]) -> JsonObject:
                return self._call("udpgrm_drain", given)

            result = _waiting.wait(
                execute, self.name, arguments, _waiting.LONGEST, None, self.check
            )
            self._note("join", service, result)

    def support(self) -> JsonObject:
        """Return what the host knows of its services, for the support bundle. It is no step of the run."""
        return self._call("udpgrm_support", {"services": self.services})

    def _rollout(self) -> dict[str, t.Any]:
        """Return the run, as modules record it on the host."""
        return {"run": self.run, "by": _run.by(), "host": self.name}

    def _claim(
        self,
        module: str,
        arguments: dict[str, t.Any],
        rollout: dict[str, t.Any],
        other_rollout: str,
    ) -> JsonObject:
        """Run a module that records the run, unless another run continues; then follow the option for that."""
        mine = dict(rollout)
        displayed_at = 0.0
        while True:
            result = self._call(module, {**arguments, "rollout": mine})
            other = result.get("rollout")
            if not result.get("failed") or not other or mine.get("replaces") == other["run"]:
                break
            if other_rollout == "replace" or _run.has_ended(other["run"]):
                mine["replaces"] = other["run"]
                continue
            if other_rollout == "refuse" or self.check:
                break
            if time.monotonic() - displayed_at >= _SAY_EVERY_S:
                displayed_at = time.monotonic()
                what = ": ".join(filter(None, [self.name, arguments.get("service")]))
                display.display(f"{what}: waits for the rollout of {other['by']}")
            time.sleep(_waiting.LONGEST)
        return result

    def _do(self, step: str, service: str, module: str, arguments: dict[str, t.Any]) -> None:
        self._note(step, service, self._call(module, arguments))

    def _call(self, module: str, arguments: dict[str, t.Any]) -> JsonObject:
        """Run a module; an unreachable host is a result as well."""
        try:
            result = self.execute(module, arguments)
        except AnsibleConnectionFailure as error:
            return {"unreachable": True, "msg": str(error)}
        if result.get("failed") and not result.get("msg"):
            return {**result, "msg": _crash(module, result.get("exception"))}
        return result

    def _note(self, step: str, service: str, result: JsonObject) -> None:
        kept = {key: value for key, value in result.items() if key not in _NOT_KEPT}
        self.steps.append({"step": step, "service": service, "result": kept})

    def _has_switched(self, result: JsonObject) -> bool:
        return _rollout.is_well(result) and bool(result.get("measured"))

    def decided(self, decision: JsonObject) -> dict[str, t.Any]:
        """Return the result of a task with the decision on its batch, and warn of the notes, which it gets."""
        for note in self.notes:
            display.warning(note)
        notes = [*decision["notes"], *self.notes]
        return {**self.result(), "decision": {**decision, "notes": notes}}

    def result(self) -> dict[str, t.Any]:
        """Return the result of the task."""
        results = [step["result"] for step in self.steps]
        found: dict[str, t.Any] = {
            "changed": any(bool(result.get("changed")) for result in results),
            "run": {"id": self.run, "at": time.time()},
            "steps": self.steps,
        }
        bad = next((result for result in results if not _rollout.is_well(result)), None)
        if bad is not None:
            key = "unreachable" if bad.get("unreachable") else "failed"
            found.update({key: True, "msg": _rollout.cause(bad)})
        return found


def _crash(module: str, exception: t.Any) -> str:
    """Return the message for a module that has raised. ansible-core 2.19 has it in the exception only, until that is stored."""
    event = getattr(exception, "event", None)
    why = getattr(event, "msg", None) or exception or "without a message"
    return f"{module} has raised an error: {why}"


def drainable(entries: t.Sequence[JsonObject]) -> list[str]:
    """Return the services of a host whose old instances may drain."""
    return [e["service"] for e in entries if e["status"] == "updated" or e["drains"]]
