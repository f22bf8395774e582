#!/usr/bin/python
# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: udpgrm_service_info
short_description: Read services, their instances and last restarts
version_added: 1.0.0
description:
  - Returns the answer of C(udpgrm status --json), the counters of each service, and the release that serves.
  - Works without a running daemon, as the state is in the kernel.
author:
  - The udpgrm authors (@udpgrm)
extends_documentation_fragment:
  - udpgrm.fleet._attributes
  - udpgrm.fleet._attributes.info_module
options:
  service:
    description:
      - Name of a service, which must be defined on the host.
      - Without it all services are returned.
    type: str
"""

EXAMPLES = r"""
- name: Read the services
  udpgrm.fleet.udpgrm_service_info:
  register: services_found

- name: Wait until no restart of a service runs
  udpgrm.fleet.udpgrm_service_info:
    service: dns
  register: dns_found
  until: dns_found.services[0].state in ['settled', 'failed', 'interrupted']
  retries: 60
  delay: 5
"""

RETURN = r"""
version:
  description: Version of the host package.
  type: str
  returned: success
  sample: 1.0.0
daemon:
  description: The daemon that registers sockets, with C(running) and C(pid).
  type: dict
  returned: success
  sample: {"running": true, "pid": 412}
services:
  description: The services.
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: Name of the service.
      type: str
      sample: dns
    state:
      description: V(settled), V(failed), V(interrupted), or the step that a restart is in.
      type: str
      sample: settled
    release:
      description: The release that serves, V(null) if unknown.
      type: str
      sample: 2.4.1
    adopted:
      description: Unit that the service replaces for good once its first restart has finished, V(null) if there is none.
      type: str
      sample: old-dns.service
    serves:
      description:
        - What serves, for a comparison with a later reading. Working C(generations), C(release), and C(boot_id) of the host.
      type: dict
      sample: {"generations": [2], "release": "2.4.1", "boot_id": "0f2e5a8c-3b1d-4c66-9a57-0d6f0e1b2c3d"}
    rollout:
      description:
        - The rolling restart that continues, V(null) if none does. C(run) names it, C(by) is its user and control node,
          C(host) the name of this host in its inventory, C(since) when it began here.
      type: dict
      sample: {"run": "control:4711:123456:a1b2", "by": "root@control", "host": "edge1", "since": 1767225600.125}
    drain:
      description: Its drain policy, with the defaults of what its definition does not give.
      type: dict
      sample: {"until": {"flows": 0, "quiet_s": 5.0}, "max_s": 300.0, "on_timeout": "stop"}
    restart:
      description: The last restart, as in RV(udpgrm.fleet.udpgrm_restart#module:restart), V(null) if there was none.
      type: dict
      sample: {"state": "drain", "step": "drain", "outcome": null, "from_generation": 1, "to_generation": 2}
    draining:
      description: Earlier restarts whose drains continue, or have failed, with C(from_generation) and C(to_generation).
      type: list
      elements: dict
      sample: [{"step": "drain", "outcome": null, "from_generation": 1, "to_generation": 2}]
    groups:
      description: Its groups, with the generations of each.
      type: list
      elements: dict
      sample: [{"address": "0.0.0.0:53", "application": 0, "dissector": "flow", "working_generation": 2, "generations": []}]
    measured:
      description: Counters and flows now, as in RV(udpgrm.fleet.udpgrm_restart#module:measured).
      type: dict
      sample: {"at": 1767225600.125, "processed": 120000, "errors": 0, "moved": 0, "dropped": 0, "flows": {"2": 4}}
problems:
  description: Definitions, and records of restarts, that cannot be read, a line each.
  type: list
  elements: str
  returned: success
  sample: ["/etc/udpgrm/services.d/edge.yaml: groups: missing"]
others:
  description: Addresses of groups that belong to no service.
  type: list
  elements: str
  returned: success
  sample: ["0.0.0.0:4433"]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.udpgrm.fleet.plugins.module_utils._host import (
    Host,
    HostError,
    service_name,
)
from ansible_collections.udpgrm.fleet.plugins.module_utils._service import info


def main() -> None:
    module = AnsibleModule(
        argument_spec={"service": {"type": "str"}},
        supports_check_mode=True,
    )
    host = Host.of_module(module)
    try:
        name = module.params["service"]
        document = info(host, None if name is None else service_name(name))
    except HostError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **document)


if __name__ == "__main__":
    main()
