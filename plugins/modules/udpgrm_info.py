#!/usr/bin/python
# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: udpgrm_info
short_description: Read reuseport groups, generations and flows of a host
version_added: 1.0.0
description:
  - Returns the answer of C(udpgrm list --json), the UDP reuseport groups of a host,
    their generations, sockets and flows.
  - Works without a running daemon, as the state is in the kernel.
author:
  - The udpgrm authors (@udpgrm)
extends_documentation_fragment:
  - udpgrm.fleet._attributes
  - udpgrm.fleet._attributes.info_module
options:
  address:
    description:
      - Return only the groups with one of these addresses, written V(192.0.2.1:443) or V([2001:db8::1]:443).
      - An address without a group is no error; it has no entry in RV(groups).
      - Without this option all groups are returned.
    type: list
    elements: str
seealso:
  - module: udpgrm.fleet.udpgrm_group
"""

EXAMPLES = r"""
- name: Read all groups of the host
  udpgrm.fleet.udpgrm_info:
  register: groups_found

- name: Wait until generation 2 of the service has its four sockets
  udpgrm.fleet.udpgrm_info:
    address: 0.0.0.0:4433
  register: groups_found
  until: >-
    groups_found.groups | map(attribute='generations') | flatten
    | selectattr('generation', 'eq', 2) | selectattr('sockets_alive', 'ge', 4) | length > 0
  retries: 30
  delay: 1
"""

RETURN = r"""
schema:
  description: Version of this document's form. Keys are only ever added while it stays the same.
  type: int
  returned: success
  sample: 1
version:
  description: Version of the host package.
  type: str
  returned: success
  sample: 1.0.0
pin_dir:
  description: Directory in bpffs that holds the state.
  type: str
  returned: success
  sample: /sys/fs/bpf/udpgrm
addresses:
  description: O(address), each in its canonical form; empty where all groups are returned.
  type: list
  elements: str
  returned: success
  sample: ["0.0.0.0:4433"]
daemon:
  description: The daemon that registers sockets. Steering continues without it.
  type: dict
  returned: success
  contains:
    running:
      description: Whether a daemon is alive.
      type: bool
    pid:
      description: Its process ID, V(null) if none is running.
      type: int
  sample: {"running": true, "pid": 412}
cgroups:
  description: Control groups whose processes' sockets are steered.
  type: list
  elements: str
  returned: success
  sample: ["/sys/fs/cgroup/udpgrm.slice"]
groups:
  description: The reuseport groups, all or at O(address).
  type: list
  elements: dict
  returned: success
  contains:
    address:
      description: IP address and port, IPv6 in brackets.
      type: str
      sample: 0.0.0.0:4433
    ip:
      description: IP address.
      type: str
      sample: 0.0.0.0
    port:
      description: Port.
      type: int
      sample: 4433
    protocol:
      description: C(udp), or C(tcp) of listeners.
      type: str
      sample: udp
    netns_cookie:
      description: The kernel's cookie of the network namespace the group is in.
      type: int
      sample: 4097
    ifindex:
      description: Index of the interface the sockets are bound to, V(0) for none.
      type: int
      sample: 0
    dissector:
      description: How a packet of the group finds its flow.
      type: dict
      contains:
        type:
          description: Kind of dissector, V(flow), V(cbpf), V(bespoke), V(noop), or V(named) for those of the library.
          type: str
          sample: flow
        name:
          description: Name of the dissector, for the library's as C(udpgrm dissector list) shows it.
          type: str
          sample: flow
        flow_timeout:
          description: Effective lifetime of a flow after its last packet sent, in seconds.
          type: int
          sample: 125
        max_apps:
          description: Number of applications that share the group.
          type: int
          sample: 0
        verbose:
          description: The reference's verbose flag, as the application has set it; it has no effect here.
          type: bool
          sample: false
        label:
          description: Name of the group towards tubular, empty for none.
          type: str
          sample: ""
    applications:
      description: The group's applications.
      type: list
      elements: dict
      contains:
        application:
          description: Number of the application.
          type: int
          sample: 0
        working_generation:
          description: The generation that new flows of this application go to.
          type: int
          sample: 2
    generations:
      description: Generations that have registered sockets.
      type: list
      elements: dict
      contains:
        application:
          description: Number of the application.
          type: int
          sample: 0
        generation:
          description: Number of the generation.
          type: int
          sample: 2
        slot:
          description: Slot of the generation among the group's 32.
          type: int
          sample: 2
        working:
          description: Whether it is its application's working generation.
          type: bool
          sample: true
        sockets:
          description: Its sockets.
          type: list
          elements: dict
          contains:
            index:
              description: Index within the generation.
              type: int
              sample: 0
            cookie:
              description: The udpgrm cookie of generation and index, hexadecimal.
              type: str
              sample: "0x00c2"
            socket_cookie:
              description: The kernel's cookie of the socket (SO_COOKIE).
              type: int
              sample: 12345
            alive:
              description: Whether the socket is still open.
              type: bool
              sample: true
        sockets_alive:
          description: Number of open sockets.
          type: int
          sample: 1
        flows:
          description:
            - Number of flows that have not expired, V(null) where they are not counted.
            - Dissectors that read cookies count those of draining generations.
          type: int
          sample: 37
        connected:
          description: Number of connected sockets, which C(flows) counts too; V(null) if they cannot be counted.
          type: int
          sample: 12
        packets_in:
          description: Packets steered to the generation.
          type: int
          sample: 1200
        packets_out:
          description: Packets its sockets sent.
          type: int
          sample: 1200
        last_in_age:
          description: Seconds since the last packet in, V(null) before the first.
          type: float
          sample: 0.2
        last_out_age:
          description: Seconds since the last packet out, V(null) before the first.
          type: float
          sample: 0.2
    connected_unknown:
      description: Number of connected sockets at the address of no known generation, V(null) if they cannot be counted.
      type: int
      sample: 0
    metrics:
      description: Counters of the group by name.
      type: dict
      sample: {"rx_processed_total": 1200}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.udpgrm.fleet.plugins.module_utils._host import Host, HostError


def main() -> None:
    module = AnsibleModule(
        argument_spec={"address": {"type": "list", "elements": "str"}},
        supports_check_mode=True,
    )
    try:
        document = Host.of_module(module).read(*module.params["address"] or [])
    except HostError as error:
        module.fail_json(msg=str(error))
    if module.params["address"] == []:  # the host would list all groups
        document["groups"] = []
    module.exit_json(changed=False, **document)


if __name__ == "__main__":
    main()
