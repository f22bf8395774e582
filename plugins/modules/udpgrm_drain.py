#!/usr/bin/python
# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: udpgrm_drain
short_description: Wait until an old instance has drained
version_added: 1.0.0
description:
  - Waits until a generation has no flows left, or until the restart of a service has ended.
  - Prints every few seconds how many flows remain on each host.
  - Stops nothing itself; with O(service), the restart stops the old instance.
  - Where a restart has replaced a unit that the role had adopted, that unit is disabled and the service starts with the
    host. Nothing else is changed.
  - Fails when time is up, or when the restart did not end with the new instance.
author:
  - The udpgrm authors (@udpgrm)
extends_documentation_fragment:
  - udpgrm.fleet._attributes
attributes:
  check_mode:
    support: full
    details:
      - Reads the host once and does not wait.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  service:
    description:
      - Name of the service whose restart is waited for.
      - Exactly one of O(service) and O(address) is required.
    type: str
  address:
    description:
      - Address of the group, written V(192.0.2.1:443) or V([2001:db8::1]:443).
    type: str
  generation:
    description:
      - The generation, which must not be the working one. Required with O(address).
    type: int
  application:
    description:
      - Number of the application within the group.
    type: int
    choices:
      - 0
      - 1
      - 2
      - 3
    default: 0
  flows:
    description:
      - Drained means that at most this many flows remain, and that O(quiet) holds if it is given.
      - Without O(flows) and O(quiet), no flow remains and there was no packet for 5 seconds.
      - Only with O(address).
    type: int
  quiet:
    description:
      - Drained means that there was no packet for this many seconds, and that O(flows) holds if it is given.
      - Only with O(address).
    type: int
  timeout:
    description:
      - Longest wait in seconds.
      - 300 with O(address) if left out. With O(service) the restart's own limit holds then.
    type: int
  rollout:
    description:
      - The rolling restart that this belongs to, which has ended on the host with the restart.
      - For the playbook C(udpgrm.fleet.rolling_restart).
    type: str
  interval:
    description:
      - Time between two readings of a host in seconds, 2 to 5.
    type: int
    default: 5
seealso:
  - module: udpgrm.fleet.udpgrm_restart
"""

EXAMPLES = r"""
- name: Wait for the end of a restart
  udpgrm.fleet.udpgrm_drain:
    service: dns

- name: Wait until generation 4 has ten flows at most
  udpgrm.fleet.udpgrm_drain:
    address: 0.0.0.0:4433
    generation: 4
    flows: 10
    timeout: 600
"""

RETURN = r"""
drained:
  description: Whether there is nothing to wait for any more.
  type: bool
  returned: always
  sample: true
flows:
  description: Remaining flows, V(null) if they are not counted.
  type: int
  returned: when something drains
  sample: 0
generation:
  description: The generation that drains, V(null) where none does.
  type: int
  returned: success
  sample: 4
elapsed:
  description: How long was waited, in seconds.
  type: float
  returned: success
  sample: 12.1
restart:
  description: The restart, as in RV(udpgrm.fleet.udpgrm_restart#module:restart), V(null) if there was none.
  type: dict
  returned: when O(service) is given
  sample: {"state": "drain", "step": "drain", "outcome": null, "from_generation": 1, "to_generation": 2}
units:
  description: Units that were enabled or disabled, as the service's first restart has replaced a unit that the role had adopted.
  type: list
  elements: str
  returned: success
  sample: []
serves:
  description: What serves, as in RV(udpgrm.fleet.udpgrm_service_info#module:services[].serves).
  type: dict
  returned: success and O(service) is given
  sample: {"generations": [2], "release": "2.4.1", "boot_id": "0f2e5a8c-3b1d-4c66-9a57-0d6f0e1b2c3d"}
measured:
  description: The readings, in their order. With O(service), as in RV(udpgrm.fleet.udpgrm_restart#module:measured).
  type: list
  elements: dict
  returned: success
  sample: [{"at": 1767225600.125, "flows": {"4": 37}}]
"""

import time
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.udpgrm.fleet.plugins.module_utils import _claim
from ansible_collections.udpgrm.fleet.plugins.module_utils._host import (
    Host,
    HostError,
    service_name,
)
from ansible_collections.udpgrm.fleet.plugins.module_utils._service import (
    await_end,
    drained,
    hand_over,
)


def wait_for_generation(host: Host, params: dict[str, t.Any], limit: int) -> dict[str, t.Any]:
    """Wait for a generation. Raises HostError."""
    address, number = params["address"], params["generation"]
    until = {name: params[name] for name in ("flows", "quiet")}
    answer = host.drain(address, number, params["application"], until, limit)
    return {
        "drained": answer["drained"],
        "flows": answer["flows"],
        "generation": number,
        "measured": [{"at": time.time(), "flows": {str(number): answer["flows"]}}],
    }


def drop_claim(module: AnsibleModule) -> None:
    """Delete the claim on the service, if this rollout has waited to its end."""
    params = module.params
    if params["rollout"] is not None and params["service"] is not None and not module.check_mode:
        _claim.drop(params["service"], params["rollout"])


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "service": {"type": "str"},
            "address": {"type": "str"},
            "generation": {"type": "int"},
            "application": {"type": "int", "choices": [0, 1, 2, 3], "default": 0},
            "flows": {"type": "int"},
            "quiet": {"type": "int"},
            "timeout": {"type": "int"},
            "rollout": {"type": "str"},
            # Set by the action plugin, which calls this module for one interval after the other.
            "interval": {"type": "int", "default": 5},
        },
        mutually_exclusive=[
            ("rollout", "address"),
            ("service", "address"),
            ("service", "flows"),
            ("service", "quiet"),
        ],
        required_one_of=[("service", "address")],
        required_together=[("address", "generation")],
        supports_check_mode=True,
    )
    params = module.params
    limit = 0 if module.check_mode else min(params["timeout"] or 0, params["interval"])
    host = Host.of_module(module)
    units: list[str] = []
    try:
        if params["service"] is None:
            result = wait_for_generation(host, params, limit)
        else:
            service = service_name(params["service"])
            restart = await_end(host, service, limit)
            result = drained(restart)
            if result["drained"]:
                units = hand_over(host, restart, module.check_mode)
    except HostError as error:
        drop_claim(module)
        module.fail_json(msg=str(error))
    if result["drained"]:
        drop_claim(module)
    module.exit_json(changed=bool(units), units=units, **result)


if __name__ == "__main__":
    main()
