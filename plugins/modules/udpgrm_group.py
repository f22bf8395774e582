#!/usr/bin/python
# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: udpgrm_group
short_description: Choose the working generation of a reuseport group, check or delete the group
version_added: 1.0.0
description:
  - Makes a generation the working one of a UDP reuseport group, so that new flows go to its sockets.
  - Asserts how the group's packets are dissected.
  - Deletes a group's state.
  - A group is created by the service whose sockets it holds, never by this module.
  - Every parameter is checked before anything is changed.
author:
  - The udpgrm authors (@udpgrm)
extends_documentation_fragment:
  - udpgrm.fleet._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  address:
    description:
      - Address of the group, written V(192.0.2.1:443) or V([2001:db8::1]:443).
    type: str
    required: true
  state:
    description:
      - V(present) fails if there is no such group.
      - V(absent) deletes the group's state. Its sockets stay open and get packets as the kernel spreads them.
    type: str
    choices:
      - present
      - absent
    default: present
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
  working_gen:
    description:
      - The generation that new flows go to, a number or V(newest).
      - V(newest) is the newest generation that has an open socket.
      - A generation without an open registered socket is refused.
      - Not allowed with O(state=absent).
    type: str
  dissector:
    description:
      - What the group's dissector must be. Only the fields given are compared.
      - A difference fails the task, as a group's dissector cannot be changed. M(udpgrm.fleet.udpgrm_dissector) chooses the one
        of groups that are made later, before a service starts.
      - Not allowed with O(state=absent).
    type: dict
    suboptions:
      type:
        description:
          - Kind of dissector.
          - V(named) is one of the library, or of the operator's folder.
        type: str
        choices:
          - bespoke
          - cbpf
          - flow
          - named
          - noop
      name:
        description:
          - Name of the dissector, for O(dissector.type=named).
        type: str
      flow_timeout:
        description:
          - Lifetime of a flow after its last packet sent, in seconds.
        type: int
      label:
        description:
          - Name of the group towards tubular.
        type: str
      verbose:
        description:
          - The reference's verbose flag, as the application has set it; it has no effect here.
        type: bool
seealso:
  - module: udpgrm.fleet.udpgrm_dissector
  - module: udpgrm.fleet.udpgrm_info
"""

EXAMPLES = r"""
- name: Send new flows to the newest instance
  udpgrm.fleet.udpgrm_group:
    address: 0.0.0.0:4433
    working_gen: newest

- name: Go back to generation 1, on a group that keeps flows for 125 seconds
  udpgrm.fleet.udpgrm_group:
    address: "[2001:db8::1]:4433"
    dissector:
      type: flow
      flow_timeout: 125
    working_gen: 1

- name: Delete a group that is no longer used
  udpgrm.fleet.udpgrm_group:
    address: 0.0.0.0:4433
    state: absent
"""

RETURN = r"""
address:
  description: Address of the group in its canonical form.
  type: str
  returned: success
  sample: 0.0.0.0:4433
before:
  description: The group before the change.
  type: dict
  returned: success
  contains: &group
    state:
      description: V(present) or V(absent). A group that is absent has no other key.
      type: str
      sample: present
    application:
      description: Number of the application.
      type: int
      sample: 0
    dissector:
      description: The group's dissector, as in RV(udpgrm.fleet.udpgrm_info#module:groups[].dissector).
      type: dict
      sample: {"type": "flow", "name": "flow", "flow_timeout": 125, "max_apps": 0, "verbose": false, "label": ""}
    working_gen:
      description: The generation that new flows of the application go to.
      type: int
      sample: 1
after:
  description: The group after the change.
  type: dict
  returned: success
  contains: *group
started_at:
  description:
    - When the command that sets the working generation was started, in seconds since the epoch by the host's clock.
    - New flows go to the new generation from some moment between this and RV(finished_at).
  type: float
  returned: success and O(working_gen) is given
  sample: 1767225600.125
finished_at:
  description: When that command had ended, in seconds since the epoch by the host's clock.
  type: float
  returned: success and O(working_gen) is given
  sample: 1767225600.375
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.udpgrm.fleet.plugins.module_utils._group import (
    Wanted,
    apply,
    parse_generation,
)
from ansible_collections.udpgrm.fleet.plugins.module_utils._host import Host, HostError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "address": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "application": {"type": "int", "choices": [0, 1, 2, 3], "default": 0},
            "working_gen": {"type": "str"},
            "dissector": {
                "type": "dict",
                "options": {
                    "type": {
                        "type": "str",
                        "choices": ["bespoke", "cbpf", "flow", "named", "noop"],
                    },
                    "name": {"type": "str"},
                    "flow_timeout": {"type": "int"},
                    "label": {"type": "str"},
                    "verbose": {"type": "bool"},
                },
            },
        },
        supports_check_mode=True,
    )
    params = module.params
    present = params["state"] == "present"
    if not present and (params["working_gen"] is not None or params["dissector"] is not None):
        module.fail_json(msg="working_gen and dissector are not allowed with state=absent")
    try:
        wanted = Wanted(
            address=params["address"],
            present=present,
            application=params["application"],
            dissector={k: v for k, v in (params["dissector"] or {}).items() if v is not None},
            working_gen=None
            if params["working_gen"] is None
            else parse_generation(params["working_gen"]),
        )
        host = Host.of_module(module)
        outcome = apply(host, wanted, module.check_mode)
    except (ValueError, HostError) as error:
        module.fail_json(msg=str(error))
    result = {
        "changed": outcome.changed,
        "address": outcome.address,
        "before": outcome.before,
        "after": outcome.after,
        "diff": {"before": outcome.before, "after": outcome.after},
    }
    if outcome.started_at is not None:
        result.update(started_at=outcome.started_at, finished_at=outcome.finished_at)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
