#!/usr/bin/python
# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: udpgrm_hooks
short_description: Attach udpgrm's hooks to a control group, or detach them
version_added: 1.0.0
description:
  - The daemon need not be restarted.
  - Sockets that are bound later by processes of the group are known to udpgrm. Those that were bound before
    are not touched, and what is steered already stays so.
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
  cgroup:
    description:
      - Directory of the control group, in a cgroup2 file system.
    type: path
    required: true
  state:
    description:
      - Whether the control group has hooks of its own.
    type: str
    choices:
      - present
      - absent
    default: present
"""

EXAMPLES = r"""
- name: Steer the sockets of another slice, too
  udpgrm.fleet.udpgrm_hooks:
    cgroup: /sys/fs/cgroup/edge.slice
"""

RETURN = r"""
cgroup:
  description: Directory of the control group.
  type: str
  returned: success
  sample: /sys/fs/cgroup/edge.slice
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.udpgrm.fleet.plugins.module_utils._host import Host, HostError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "cgroup": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    state = module.params["state"]
    host = Host.of_module(module)
    action = "add" if state == "present" else "remove"
    try:
        answer = host.hooks(action, module.params["cgroup"], module.check_mode)
    except HostError as error:
        module.fail_json(msg=str(error))
    after = {"cgroup": answer["cgroup"], "state": state}
    other = "absent" if state == "present" else "present"
    before = {**after, "state": other if answer["changed"] else state}
    module.exit_json(
        changed=answer["changed"],
        cgroup=answer["cgroup"],
        diff={"before": before, "after": after},
    )


if __name__ == "__main__":
    main()
