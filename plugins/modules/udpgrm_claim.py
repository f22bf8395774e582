#!/usr/bin/python
# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: udpgrm_claim
short_description: Reserve a host for a rolling reboot
version_added: 1.0.0
description:
  - Records a run of the playbook C(udpgrm.fleet.rolling_reboot) for all services of the host, as
    M(udpgrm.fleet.udpgrm_restart) does it for the service that it restarts. While the record is there, other runs that
    reboot the host or restart a service of it are refused, and so is the same run by another name of the host.
  - Fails, and records nothing, where a restart of a service runs.
  - The record ends with the boot of the host.
author:
  - The udpgrm authors (@udpgrm)
extends_documentation_fragment:
  - udpgrm.fleet._attributes
attributes:
  check_mode:
    support: full
    details:
      - Refuses what it would refuse otherwise, and records nothing.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  state:
    description:
      - V(present) records the run, V(absent) deletes its record, unless another run has replaced it.
    type: str
    choices:
      - present
      - absent
    default: present
  rollout:
    description:
      - The run.
    type: dict
    required: true
    suboptions:
      run:
        description: Name of the run.
        type: str
        required: true
      by:
        description: Its user and control node, for people.
        type: str
        required: true
      replaces:
        description: Name of a dead run that this one replaces.
        type: str
      host:
        description: Name of the host in its inventory. By another one the same run is refused.
        type: str
seealso:
  - module: udpgrm.fleet.udpgrm_reboot
  - module: udpgrm.fleet.udpgrm_restart
"""

EXAMPLES = r"""
- name: Reserve the host for this run
  udpgrm.fleet.udpgrm_claim:
    rollout:
      run: control:4711:123456:a1b2
      by: root@control
      host: "{{ inventory_hostname }}"
"""

RETURN = r"""
services:
  description: The services of the host, as M(udpgrm.fleet.udpgrm_service_info) returns them.
  type: list
  elements: dict
  returned: when O(state=present) has succeeded
  sample: [{"name": "dns", "state": "finished"}]
rollout:
  description: The run that continues, as in RV(udpgrm.fleet.udpgrm_service_info#module:services[].rollout).
  type: dict
  returned: when O(rollout) was refused because of another one
  sample: {"run": "control:4711:123456:a1b2", "by": "root@control", "host": "edge1", "since": 1767225600.125}
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.udpgrm.fleet.plugins.module_utils import _claim
from ansible_collections.udpgrm.fleet.plugins.module_utils._host import (
    Host,
    HostError,
    JsonObject,
)
from ansible_collections.udpgrm.fleet.plugins.module_utils._service import info


def claim(host: Host, rollout: _claim.Rollout, check: bool) -> JsonObject:
    """Record the run for all services, and return them. Raises Claimed, NamedTwice, HostError."""
    services = _services(host)
    for service in services:
        _claim.check(service, rollout)
    try:
        for service in [] if check else services:
            _claim.take(service, rollout)
    except (_claim.Claimed, HostError):
        drop(services, rollout.run)
        raise
    # read after that: from now on no run begins another restart
    document = info(host, None)
    running = [item["name"] for item in document["services"] if is_running(item["restart"])]
    if running:
        drop(services, rollout.run)
        raise HostError(f"{', '.join(running)}: a restart runs; reboot the host when it has ended")
    return document


def is_running(restart: JsonObject | None) -> bool:
    """Return whether a process of the host runs a restart."""
    return restart is not None and bool(restart["running"])


def drop(services: t.Iterable[str], run: str) -> None:
    """Delete the record of the run for services, unless another run has replaced it."""
    for service in services:
        _claim.drop(service, run)


def _services(host: Host) -> list[str]:
    return [item["name"] for item in host.status()["services"]]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "rollout": {"type": "dict", "required": True, "options": _claim.OPTIONS},
        },
        supports_check_mode=True,
    )
    rollout = _claim.rollout_of(module.params["rollout"])
    host = Host.of_module(module)
    result: JsonObject = {}
    try:
        if module.params["state"] == "present":
            result = claim(host, rollout, module.check_mode)
        elif not module.check_mode:
            drop(_services(host), rollout.run)
    except _claim.Claimed as error:
        module.fail_json(msg=str(error), rollout=error.claim)
    except (_claim.NamedTwice, HostError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
