# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleActionFail
from ansible_collections.udpgrm.fleet.plugins.action import udpgrm_rollout
from ansible_collections.udpgrm.fleet.plugins.plugin_utils import _reboot, _rollout

JsonObject = dict[str, t.Any]


class ActionModule(udpgrm_rollout.ActionModule):
    """Runs a step of a rolling reboot that a rolling restart does not have."""

    def _by_step(self) -> dict[str, t.Callable[[], JsonObject]]:
        return {"drain": self._drain, "serve": self._serve, "probe": self._probe}

    def _drain(self) -> JsonObject:
        """Wait until a reboot cuts off no client."""
        part = self._part_of_reboot()
        found = _reboot.drain(part.read, self._host, part.check)
        return {**part.result(), **found}

    def _serve(self) -> JsonObject:
        """Wait until the services serve again after a reboot."""
        part = self._part_of_reboot()
        names = self._variables[_rollout.PLAN]["served"]
        drained = self._variables[_rollout.DRAIN]
        found: JsonObject = {"plan": {"reboot": True}}
        if not part.check:
            found = _reboot.serve(part.read, names, drained)
            part.claim_again()
        step = {"step": "switch", "service": _rollout.REBOOT, "result": found}
        return {**part.result(), **found, "steps": [step]}

    def _probe(self) -> JsonObject:
        """Probe the services from the host that the task is delegated to."""
        part = self._part_of_reboot()
        names = self._variables[_rollout.PLAN]["served"]
        place = str(self._variables.get("ansible_host") or self._host)
        problems = [] if part.check else part.probe(_reboot.probes(self._defined(), names, place))
        failed = {"failed": True, "msg": "; ".join(problems)} if problems else {}
        return {**part.result(), **failed}

    def _part_of_reboot(self) -> _reboot.Host:
        part = self._part(self._variables[_rollout.BEGIN]["run"]["id"])
        if not isinstance(part, _reboot.Host):
            raise AnsibleActionFail("udpgrm_reboot is for the playbook udpgrm.fleet.rolling_reboot")
        return part

    def _defined(self) -> list[JsonObject]:
        """Return the services that the role has defined on the host."""
        given = self._templar.template(self._variables.get("udpgrm_services") or [])
        return [item for item in given if item.get("state") != "absent"]
