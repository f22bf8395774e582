# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.udpgrm.fleet.plugins.plugin_utils import (
    _bundle,
    _page,
    _result,
    _rollout,
    _table,
    _variables,
    _webhook,
)

display = Display()


class ActionModule(ActionBase):  # type: ignore[misc]  # Ansible has no types
    """Prints the table and writes the page; nothing runs on a host."""

    BYPASS_HOST_LOOP = True
    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(
        self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None
    ) -> dict[str, t.Any]:
        """Return the sums; fail if hosts were skipped without a reason."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        self.validate_argument_spec(argument_spec={})
        variables = task_vars or {}
        try:
            settings = _variables.settings(variables, self._templar.template)
        except ValueError as error:
            raise AnsibleActionFail(str(error)) from error
        names = [str(name) for name in variables["ansible_play_hosts_all"]]
        hostvars = variables["hostvars"]
        run = _rollout.newest_run(hostvars, names)
        removed = [name for name in names if name not in variables["ansible_play_hosts"]]
        entries = _rollout.collect(hostvars, names, settings["services"], run, removed)
        untouched = [e["host"] for e in entries if e["status"] == "untouched"]
        limits = settings["max_failures"], settings["max_error_share"]
        # failures of the last batch, or in a drain, have stopped nothing
        reason = _rollout.reason_to_stop(entries, *limits) if untouched else ""
        stop, notes = _rollout.decisions(hostvars, names, run)
        reason = "; ".join(filter(None, [stop, reason]))
        document = _result.document(settings, entries, reason, notes, ended=True)
        for line in _table.render(entries, reason, notes, document["summary"]):
            display.display(line)
        problem = _page.write(settings, entries, reason, notes, ended=True)
        if problem:
            display.warning(problem)
        if not self._task.check_mode:
            line, problem = _bundle.write(settings["support_bundle"], run, document)
            if line:
                display.display(line)
            if problem:
                display.warning(problem)
        if settings["webhook"] and not self._task.check_mode:
            problem = _webhook.send(
                settings, _webhook.event("end", [], document["summary"], document)
            )
            if problem:
                display.warning(problem)
        result.update(changed=False, counts=document["counts"], summary=document["summary"])
        # as set_stats does; not by a name that begins with udpgrm_: AWX gives them to the next job as variables
        data = {"rolling_restart": {", ".join(settings["services"]): document}}
        if settings["reboots"]:
            data = {"rolling_reboot": document}
        result["ansible_stats"] = {"data": data, "per_host": False, "aggregate": True}
        if any(e["status"] in _rollout.BAD for e in entries):
            return result  # those hosts fail the run already
        if stop:
            result.update(failed=True, msg=f"the run was stopped: {stop}")
        elif untouched and not reason:
            hosts = ", ".join(dict.fromkeys(untouched))
            result.update(failed=True, msg=f"these hosts were not reached: {hosts}")
        return result
