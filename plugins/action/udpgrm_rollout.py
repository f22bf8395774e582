# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import time
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.udpgrm.fleet.plugins.plugin_utils import (
    _page,
    _rollout,
    _run,
    _steps,
    _variables,
)
from ansible_collections.udpgrm.fleet.plugins.plugin_utils._once import once

display = Display()
JsonObject = dict[str, t.Any]


class ActionModule(ActionBase):  # type: ignore[misc]  # Ansible has no types
    """Runs a step of a rollout on its host, with the modules that the step needs."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: JsonObject | None = None) -> JsonObject:
        """Run the step, and return its result with its run."""
        result: JsonObject = super().run(tmp, task_vars)
        _valid, arguments = self.validate_argument_spec(
            argument_spec={
                "step": {
                    "type": "str",
                    "required": True,
                    "choices": ["switch", "look", "finish"],
                },
                "host": {"type": "str"},
                "apart": {"type": "bool", "default": False},
            }
        )
        self._variables = task_vars or {}
        try:
            self._settings = _variables.settings(self._variables, self._templar.template)
        except ValueError as error:
            raise AnsibleActionFail(str(error)) from error
        self._host = str(arguments["host"] or self._variables["inventory_hostname"])
        self._hosts = [str(name) for name in self._variables["ansible_play_hosts_all"]]
        self._batch = [str(name) for name in self._variables["ansible_play_batch"]]
        step = {"switch": self._switch, "look": self._look, "finish": self._finish}
        result.update(step[arguments["step"]](arguments["apart"]))
        return result

    def _part(self, run: str) -> _steps.Host:
        def execute(module: str, arguments: JsonObject) -> JsonObject:
            answer: JsonObject = self._execute_module(
                module_name=f"udpgrm.fleet.{module}",
                module_args=arguments,
                task_vars=self._variables,
            )
            return answer

        check = bool(self._task.check_mode)
        return _steps.Host(self._host, run, self._settings["services"], execute, check)

    def _entries(self, names: list[str], run: str) -> list[JsonObject]:
        services = self._settings["services"]
        return _rollout.collect(self._variables["hostvars"], names, services, run)

    def _reason(self, entries: list[JsonObject]) -> str:
        settings = self._settings
        return _rollout.reason_to_stop(
            entries, settings["max_failures"], settings["max_error_share"]
        )

    def _is_first(self) -> bool:
        return self._batch[:1] == [self._host]

    def _is_last_batch(self) -> bool:
        return self._batch[-1:] == self._hosts[-1:]

    def _switch(self, apart: bool) -> JsonObject:
        """Restart the services, unless the rollout is to stop; with a batch no larger than the forks, check them as well."""
        run = _run.name(self._task._uuid)
        decision = once(f"{run} {self._batch[0]}", self._is_first(), lambda: self._decide(run))
        if decision["reason"]:
            return {"changed": False, "skipped": True, "skip_reason": decision["reason"]}
        part = self._part(run)
        part.switch(self._settings["release"], self._settings["other_rollout"])
        if not apart and not self._is_last_batch():
            part.bake_and_look(self._settings["bake"])
        return part.result()

    def _decide(self, run: str) -> JsonObject:
        """Return whether the batch may begin, after the pause before it, and write the page so far."""
        entries = self._entries(self._hosts, run)
        reason = self._reason(entries)
        if reason:
            display.display(f"no further batch: {reason}")
        elif any(entry["status"] != "untouched" for entry in entries):
            time.sleep(0 if self._task.check_mode else self._settings["pause"])
        problem = _page.write(self._settings, entries, reason, ended=False)
        if problem:
            display.warning(problem)
        return {"reason": reason}

    def _look(self, _apart: bool) -> JsonObject:
        """Check a host that has switched: one of the batch after the bake, or a canary again."""
        variables = self._variables["hostvars"][self._host]
        run = (self._variables.get(_rollout.SWITCH) or {}).get("run", {}).get("id", "")
        entries = _rollout.collect(
            {self._host: variables}, [self._host], self._settings["services"], run
        )
        switched = [entry["service"] for entry in entries if entry["status"] == "updated"]
        if self._host in self._batch:
            once(f"{self._task._uuid} {self._batch[0]}", self._is_first(), self._bake)
        if not switched or self._is_last_batch():
            return {"changed": False, "skipped": True}
        part = self._part(run)
        part.look(switched)
        return part.result()

    def _bake(self) -> JsonObject:
        time.sleep(0 if self._task.check_mode or self._is_last_batch() else self._settings["bake"])
        return {}

    def _finish(self, _apart: bool) -> JsonObject:
        """Roll back if that is asked for, wait for the old instances, and fail for what went wrong."""
        decision = once(f"{self._task._uuid} finish", self._is_first(), self._sum_up)
        run = decision["run"]
        part = self._part(run)
        if decision["reason"] and self._settings["on_stop"] == "rollback" and not part.check:
            part.back(
                [
                    entry["service"]
                    for entry in self._mine(part)
                    if entry["status"] == "updated"
                    or (entry["drains"] and entry["status"] != "rolled_back")
                ]
            )
        part.join(
            [
                entry["service"]
                for entry in self._mine(part)
                if entry["status"] == "updated" or entry["drains"]
            ]
        )
        verdict = _rollout.verdicts(self._mine(part), self._settings["max_error_share"])
        why = verdict.get(self._host) or decision["bad"].get(self._host)
        result = {**part.result(), "failed": bool(why), "unreachable": False}
        return {**result, "msg": why} if why else result

    def _sum_up(self) -> JsonObject:
        run = _rollout.newest_run(self._variables["hostvars"], self._hosts)
        entries = self._entries(self._hosts, run)
        bad = _rollout.verdicts(entries, self._settings["max_error_share"])
        return {"run": run, "reason": self._reason(entries), "bad": bad}

    def _mine(self, part: _steps.Host) -> list[JsonObject]:
        """Return the entries of this host, with the steps of this task."""
        done = {"run": {"id": part.run}, "steps": part.steps}
        variables = {**self._variables["hostvars"][self._host], _rollout.FINISH: done}
        services = self._settings["services"]
        return _rollout.collect({self._host: variables}, [self._host], services, part.run)
