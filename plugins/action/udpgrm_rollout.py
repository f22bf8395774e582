# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import time
import typing as t
from collections import ChainMap

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible.utils.vars import load_extra_vars
from ansible_collections.udpgrm.fleet.plugins.plugin_utils import (
    _baking,
    _bundle,
    _decision,
    _hosts,
    _page,
    _reboot,
    _result,
    _rollout,
    _run,
    _steps,
    _table,
    _variables,
    _webhook,
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
                "step": {"type": "str", "required": True, "choices": list(self._by_step())},
                "host": {"type": "str"},
                "apart": {"type": "bool", "default": False},
                "planned": {"type": "bool", "default": False},
                "hook": {"type": "str"},
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
        self._arguments = arguments
        result.update(self._by_step()[arguments["step"]]())
        return result

    def _by_step(self) -> dict[str, t.Callable[[], JsonObject]]:
        return {
            "begin": self._begin,
            "hook": self._hook,
            "plan": self._plan,
            "switch": self._switch,
            "inspect": self._inspect,
            "stop": self._stop,
            "finish": self._finish,
        }

    def _part(self, run: str, plans: bool = False) -> _steps.Host:
        if plans:
            # in this worker only
            self._task.check_mode = True

        def execute(module: str, arguments: JsonObject) -> JsonObject:
            answer: JsonObject = self._execute_module(
                module_name=module if "." in module else f"udpgrm.fleet.{module}",
                module_args=arguments,
                task_vars=self._variables,
            )
            return answer

        check = bool(self._task.check_mode) and not plans
        kind = _reboot.Host if self._settings["reboots"] else _steps.Host
        return kind(self._host, run, self._settings["services"], execute, check)

    def _entries(self, names: list[str], run: str) -> list[JsonObject]:
        there = self._variables["ansible_play_hosts"]
        removed = [name for name in self._hosts if name not in there]
        services = self._settings["services"]
        return _rollout.collect(self._variables["hostvars"], names, services, run, removed)

    def _reason(self, entries: list[JsonObject], run: str) -> tuple[str, list[str]]:
        """Return why the run is to stop, empty if it is not, and the notes of its batches."""
        settings = self._settings
        stop, notes = _rollout.decisions(self._variables["hostvars"], self._hosts, run)
        reason = _rollout.reason_to_stop(
            entries, settings["max_failures"], settings["max_error_share"]
        )
        return "; ".join(filter(None, [stop, reason])), notes

    def _is_last_batch(self) -> bool:
        return self._batch[-1:] == self._hosts[-1:]

    def _begin(self) -> JsonObject:
        """Decide whether the batch may begin, in a task of its own: for those of the operator, which come next."""
        run = _run.name(self._task._uuid)
        decision = self._decision(run)
        return {
            **self._part(run).result(),
            "decision": decision,
            "services": self._settings["services"],
            "release": self._settings["release"],
            "batch": self._batch,
            "begins": not decision["reason"],
            "reason": decision["reason"],
        }

    def _decision(self, run: str) -> JsonObject:
        """Return the decision on the batch, made by one host for all."""
        self._check_parsed()
        return once(f"{run} {self._batch[0]}", lambda: self._decide(run))

    def _check_parsed(self) -> None:
        """Raise AnsibleActionFail for a variable that was not known as the playbook was parsed."""
        parsed = {*load_extra_vars(self._loader), *self._task.get_play().vars}
        has_domain = self._variables.get(_variables.DOMAIN) not in (None, "")
        try:
            _variables.check_parsed(self._settings, parsed, has_domain)
        except ValueError as error:
            raise AnsibleActionFail(str(error)) from error

    def _hook(self) -> JsonObject:
        """Return the failure of a hook, as a step of its host that has failed. The task itself succeeds: it rescues."""
        begun = self._variables.get(_rollout.BEGIN) or {}
        result = self._variables.get("ansible_failed_result") or {}
        task = self._variables.get("ansible_failed_task") or {}
        name = self._arguments["hook"] or self._hook_of_host()
        parts = [name, str(task.get("name") or task.get("action")), _rollout.cause(result)]
        message = ": ".join(filter(None, parts))
        if name == f"{_variables.PREFIX}on_stop_tasks":
            display.warning(message)
            return {"changed": False}
        failure = {"failed": True, "msg": message}
        steps = _rollout.hook_steps(failure, self._settings["services"])
        return {"changed": False, "run": begun.get("run"), "steps": steps}

    def _hook_of_host(self) -> str:
        """Return the variable whose task has failed; empty: it was a task of the reboot."""
        run = self._variables[_rollout.BEGIN]["run"]["id"]
        drain, switch, probe = (
            self._variables.get(key) or {}
            for key in (_rollout.DRAIN, _rollout.SWITCH, _rollout.PROBE)
        )
        probed = _rollout.is_of(probe, run) and not probe.get("failed")
        if _rollout.is_of(drain, run) and not probed:
            return ""
        switched = _rollout.is_of(switch, run)
        after = switched or not self._variables[_rollout.PLAN]["restarts"]
        return f"{_variables.PREFIX}{'after' if after else 'before'}_host"

    def _plan(self) -> JsonObject:
        """Return whether there is something to do, before a hook takes the host out. What would be refused fails."""
        begun = self._variables[_rollout.BEGIN]
        # a reboot reserves its host
        part = self._part(begun["run"]["id"], plans=not self._settings["reboots"])
        problem = self._problem_of_batch(begun)
        if problem:
            part.fail(problem)
            return part.result()
        return part.plan(self._settings["release"], self._settings["other_rollout"])

    def _problem_of_batch(self, begun: JsonObject) -> str:
        """Return why the hook before the batch has not ended; it runs on the first host for all."""
        first = begun["batch"][0]
        if first not in self._variables["ansible_play_hosts"]:
            return f"udpgrm_before_batch: a task of {first} did not reach its host"
        result = self._variables["hostvars"][first].get(_rollout.BATCH_HOOK)
        if not _rollout.is_of(result, begun["run"]["id"]):
            return ""
        return str(result["steps"][0]["result"]["msg"])

    def _switch(self) -> JsonObject:
        """Restart the services, unless the rollout is to stop, and inspect them if no task of its own does."""
        decision: JsonObject = {"stop": "", "notes": []}
        if self._arguments["planned"]:
            plan = self._variables.get(_rollout.PLAN) or {}
            if not plan.get("restarts"):
                return {"changed": False, "skipped": True}
            run = str(plan["run"]["id"])
        else:
            run = _run.name(self._task._uuid)
            decision = self._decision(run)
            if decision["reason"]:
                reason = {"skipped": True, "skip_reason": decision["reason"]}
                return {**self._part(run).result(), **reason, "decision": decision}
        part = self._part(run)
        if self._bakes() and (self._inspects_at_once() or not self._arguments["apart"]):
            stop = _baking.restart(part, self._settings, f"{run} {self._batch[0]}")
            decision = {**decision, "stop": stop}
        else:
            part.switch(self._settings["release"], self._settings["other_rollout"])
        return part.decided(decision)

    def _inspects_at_once(self) -> bool:
        """Return whether the task that restarts inspects as well: a host occupies a fork while it bakes."""
        return len(self._batch) <= int(self._variables["ansible_forks"])

    def _bakes(self) -> bool:
        """Return whether the batch is baked and inspected: the last one only for the gates."""
        return not self._is_last_batch() or _decision.gates(self._settings) is not None

    def _decide(self, run: str) -> JsonObject:
        """Return whether the batch may begin, after the pause before it, and write the page so far."""
        entries = self._entries(self._hosts, run)
        reason, notes = self._reason(entries, run)
        decision: JsonObject = {"stop": "", "notes": []}
        is_first = all(entry["status"] == "untouched" for entry in entries)
        if not reason and is_first:
            where = self._variables["hostvars"], self._hosts
            reason = _variables.other_services(*where) or _hosts.named_twice(*where)
            decision["stop"] = reason
        if not reason and not self._task.check_mode:
            self._write_page(entries, reason, notes)
            if not is_first:
                time.sleep(self._settings["pause"])
                self._display_table(entries)

            def on_wait(why: str) -> None:
                self._notify("wait", why, entries, notes)

            decision = _decision.decide(self._settings, self._batch, is_first, notes, on_wait)
            reason = decision["stop"]
            if not reason:
                self._notify("begin" if is_first else "batch", "", entries, notes)
        notes = [*notes, *decision["notes"]]
        if reason:
            display.display(f"no further batch: {reason}")
            if not _rollout.has_stopped(self._variables["hostvars"], self._hosts, run):
                self._notify("stop", reason, entries, notes)
        self._write_page(entries, reason, notes)
        return {**decision, "reason": reason}

    def _notify(self, name: str, why: str, entries: list[JsonObject], notes: list[str]) -> None:
        if self._settings["webhook"] and not self._task.check_mode:
            reason = why if name == "stop" else ""
            result = _result.document(self._settings, entries, reason, notes, ended=False)
            event = _webhook.event(name, self._batch, why, result)
            problem = _webhook.send(self._settings, event)
            if problem:
                display.warning(problem)

    def _write_page(self, entries: list[JsonObject], reason: str, notes: list[str]) -> None:
        problem = _page.write(self._settings, entries, reason, notes, ended=False)
        if problem:
            display.warning(problem)

    def _display_table(self, entries: list[JsonObject]) -> None:
        """Display the table so far, where an answer is waited for."""
        if self._settings["approval"]:
            for line in _table.render(entries, "", [], "so far"):
                display.display(line)

    def _inspect(self) -> JsonObject:
        """Inspect a host that has switched: one of the batch after the bake, or a canary again."""
        hostvars = self._variables["hostvars"]
        run = _rollout.newest_run(hostvars, [str(self._variables["inventory_hostname"])])
        is_again = self._host not in self._batch
        if not self._was_begun(run, is_again) or (self._inspects_at_once() and not is_again):
            return {"changed": False, "skipped": True}
        variables = hostvars[self._host]
        entries = _rollout.collect(
            {self._host: variables}, [self._host], self._settings["services"], run
        )
        switched = [entry["service"] for entry in entries if entry["status"] == "updated"]
        decision = {"stop": "", "notes": []}
        if not is_again:
            decision["stop"] = self._bake(f"{run} {self._batch[0]}")
        part = self._part(run)
        if not switched or not self._bakes():
            return {**part.result(), "skipped": True, "decision": decision}
        part.inspect(switched)
        return {**part.result(), "decision": decision}

    def _was_begun(self, run: str, is_again: bool) -> bool:
        """Return whether the batch was begun, and its host restarted, if it is not a canary that is inspected again."""
        switch = self._variables.get(_rollout.SWITCH) or {}
        begun = self._variables.get(_rollout.BEGIN) or {}
        if switch.get("skip_reason") or (_rollout.is_of(begun, run) and not begun["begins"]):
            return False
        return is_again or (_rollout.is_of(switch, run) and not switch.get("skipped"))

    def _bake(self, batch: str) -> str:
        """Wait in one worker for all, as batches here may be larger than the forks; return why the run stops."""
        if not self._bakes() or self._task.check_mode:
            return ""
        outcome = once(f"{batch} bake", lambda: {"stop": _baking.wait(self._settings, batch)})
        return str(outcome["stop"])

    def _stop(self) -> JsonObject:
        """Return why the run has stopped, for the tasks of the operator."""

        def find() -> JsonObject:
            run = _rollout.newest_run(self._variables["hostvars"], self._hosts)
            entries = self._entries(self._hosts, run)
            hosts = [_result.host(entry) for entry in entries]
            return {"reason": self._reason(entries, run)[0], "hosts": hosts}

        return {"changed": False, **once(f"{self._task._uuid} stop", find)}

    def _finish(self) -> JsonObject:
        """Roll back if that is asked for, wait for the old instances, and fail for what went wrong."""
        decision = once(f"{self._task._uuid} finish", self._sum_up)
        run = decision["run"]
        part = self._part(run)
        if decision["reason"] and self._settings["on_stop"] == "rollback" and not part.check:
            left = [entry for entry in self._mine(part) if entry["status"] != "rolled_back"]
            part.back(_steps.drainable(left))
        part.join(_steps.drainable(self._mine(part)))
        if isinstance(part, _reboot.Host):
            part.release(self._variables.get(_rollout.PLAN))
        verdict = _rollout.verdicts(self._mine(part), self._settings["max_error_share"])
        why = verdict.get(self._host) or decision["bad"].get(self._host)
        result = {**part.result(), "failed": bool(why), "unreachable": False}
        if why and self._settings["support_bundle"] and not part.check:
            _bundle.keep(run, self._host, part.support())
        return {**result, "msg": why} if why else result

    def _sum_up(self) -> JsonObject:
        run = _rollout.newest_run(self._variables["hostvars"], self._hosts)
        entries = self._entries(self._hosts, run)
        bad = _rollout.verdicts(entries, self._settings["max_error_share"])
        return {"run": run, "reason": self._reason(entries, run)[0], "bad": bad}

    def _mine(self, part: _steps.Host) -> list[JsonObject]:
        """Return the entries of this host, with the steps of this task."""
        done = {"run": {"id": part.run}, "steps": part.steps}
        # not a copy: Ansible would resolve all variables, those of a failed hook's task included
        variables = ChainMap({_rollout.FINISH: done}, self._variables["hostvars"][self._host])
        services = self._settings["services"]
        return _rollout.collect({self._host: variables}, [self._host], services, part.run)
