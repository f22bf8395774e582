# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout
author:
  - The udpgrm authors (@udpgrm)
version_added: 1.0.0
short_description: Hosts and batches of a rolling restart
description:
  - Reads the variables of the playbooks C(udpgrm.fleet.rolling_restart) and C(udpgrm.fleet.rolling_reboot), and fails for
    any that is wrong or misspelt.
  - Without any host in the inventory it fails, but for a syntax check, in which nothing is checked then.
options:
  begin:
    description:
      - Whether the rollout is about to begin. It then also fails if the page cannot be written.
    type: bool
    default: false
  at_parsing:
    description:
      - Whether the playbook is only parsed. Variables and hosts that may be known later are no error then.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Restart a service
  hosts: "{{ lookup('udpgrm.fleet.rollout', begin=true).hosts }}"
  serial: "{{ lookup('udpgrm.fleet.rollout').serial }}"
"""

RETURN = r"""
_raw:
  description:
    - C(hosts), the canaries first; C(serial); C(canaries) that were named and that C(--limit) leaves.
    - C(tasks), the file of tasks for a batch. With V(restart), hosts are inspected in a task of its own, as with canaries or
      where a batch may be larger than the number of forks. With V(hooks), tasks of the operator are run as well.
    - C(work), the file of tasks for a host between those of the operator.
    - C(end), the file of tasks after the last batch. With V(stop), tasks of the operator are run where the rollout has stopped.
    - C(hooks), the paths of the operator's files of tasks, by the names of the variables without C(udpgrm_). Where there is
      none, a file without tasks.
  type: dict
"""

import typing as t

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase
from ansible_collections.udpgrm.fleet.plugins.plugin_utils import (
    _approval,
    _bundle,
    _domains,
    _hosts,
    _page,
    _paths,
    _variables,
)

_NO_TASKS = str(_paths.PLAYBOOKS / "tasks" / "none.yml")


class LookupModule(LookupBase):  # type: ignore[misc]  # Ansible is not typed
    def run(
        self, terms: list[t.Any], variables: dict[str, t.Any] | None = None, **kwargs: t.Any
    ) -> list[dict[str, t.Any]]:
        """Return the plan of a rollout. Raises AnsibleError for wrong variables and unknown hosts."""
        given = variables or {}
        self.set_options(var_options=given, direct=kwargs)
        inventory = _hosts.Inventory(self._loader, given)
        at_parsing = self.get_option("at_parsing")
        if inventory.is_empty:
            if not at_parsing:  # hosts may be added until the play begins
                _hosts.refuse_empty()
            return [_unknown({}, apart=False)]
        # variables of hosts are known to the tasks only
        lacking = _variables.ROLLING_RESTART if at_parsing else ["udpgrm_release"]
        try:
            settings = _variables.settings(given, self._templar.template, lacking)
            if self.get_option("begin"):
                _page.check(settings["report"])
                _approval.check(settings["approval"])
                _bundle.check(settings["support_bundle"])
        except ValueError as error:
            raise AnsibleError(str(error)) from error
        try:
            return [self._rollout(inventory, settings, given, at_parsing)]
        except AnsibleError:
            if not at_parsing:
                raise
            # hosts may be added until the play begins, which refuses them otherwise
            return [_unknown(settings, apart=True)]

    def _rollout(
        self,
        inventory: _hosts.Inventory,
        settings: dict[str, t.Any],
        given: dict[str, t.Any],
        at_parsing: bool,
    ) -> dict[str, t.Any]:
        hosts = inventory.meant(settings["hosts"])
        limited = inventory.within_limit(hosts, given.get("ansible_limit"))
        _hosts.check_command_line(limited, given)
        serial, canaries = settings["batches"], []
        forks = int(given.get("ansible_forks") or 1)
        if settings["canary"]:
            canaries = [name for name in inventory.meant(settings["canary"]) if name in limited]
            if not canaries and limited:
                raise AnsibleError(
                    "udpgrm_canary: it names no host of udpgrm_hosts that --limit leaves"
                )
            serial = [max(1, len(canaries)), *serial[1:]]
        if settings["reboots"] and not settings["before_host"] and not at_parsing:
            raise AnsibleError(
                "udpgrm_before_host: set it to a file of tasks that takes the host out: its clients would not leave"
            )
        ordered = [*canaries, *(name for name in hosts if name not in canaries)]
        if settings["max_domains"] and limited and not at_parsing:
            ordered, serial = self._in_domains(
                [name for name in ordered if name in limited],
                serial,
                len(canaries),
                settings,
                given,
            )
        return {
            "hosts": ordered,
            "serial": serial,
            "canaries": canaries,
            **_files(settings, apart=bool(canaries) or len(limited) > forks),
        }

    def _in_domains(
        self,
        hosts: list[str],
        serial: list[int | str],
        canaries: int,
        settings: dict[str, t.Any],
        given: dict[str, t.Any],
    ) -> tuple[list[str], list[int]]:
        """Return hosts and sizes of batches with no more domains than allowed."""
        found = _hosts.variable(self._loader, given, hosts, _variables.DOMAIN)
        domains = {host: self._templar.template(found[host]) for host in hosts}
        without = [host for host in hosts if domains[host] in (None, "")]
        if without:
            raise AnsibleError(f"{_variables.DOMAIN}: {', '.join(without)} have none")
        return _domains.batches(serial, canaries, domains, settings["max_domains"])


def _unknown(settings: dict[str, t.Any], apart: bool) -> dict[str, t.Any]:
    """Return the plan of a rollout whose hosts are not known."""
    return {"hosts": ["all"], "serial": [1], "canaries": [], **_files(settings, apart)}


def _files(settings: dict[str, t.Any], apart: bool) -> dict[str, t.Any]:
    """Return the files of tasks; C(apart): hosts are inspected in a task of its own."""
    return {
        "tasks": _tasks(settings, apart),
        "work": "reboot" if settings.get("reboots") else _restart(apart),
        "end": "stop" if settings.get("on_stop_tasks") else "finish",
        "hooks": {hook: settings.get(hook) or _NO_TASKS for hook in _variables.HOOKS},
    }


def _tasks(settings: dict[str, t.Any], apart: bool) -> str:
    if settings.get("reboots") or any(
        settings.get(hook) for hook in _variables.HOOKS if hook != "on_stop_tasks"
    ):
        return "hooks"
    return _restart(apart)


def _restart(apart: bool) -> str:
    return "restart" if apart else "restart_and_inspect"
