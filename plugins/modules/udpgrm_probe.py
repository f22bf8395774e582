#!/usr/bin/python
# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: udpgrm_probe
short_description: See whether new packets reach the working generation
version_added: 1.0.0
description:
  - Sends packets to a group from the host itself, each from a fresh source port, and reads in the kernel's
    counters where they went.
  - Sends them in check mode, too, as they change nothing.
  - Fails if the working generation has not got them. An answer of the service is counted, not required.
author:
  - The udpgrm authors (@udpgrm)
extends_documentation_fragment:
  - udpgrm.fleet._attributes
  - udpgrm.fleet._attributes.info_module
options:
  address:
    description:
      - Address of the group, written V(192.0.2.1:443) or V([2001:db8::1]:443).
    type: str
    required: true
  count:
    description:
      - Number of packets, 1 to 1000.
    type: int
    default: 8
  timeout:
    description:
      - How long answers are waited for, in seconds, 0 to 60.
    type: int
    default: 1
  generation:
    description:
      - Fail when the working generation is another one.
    type: int
"""

EXAMPLES = r"""
- name: See that generation 3 gets new packets
  udpgrm.fleet.udpgrm_probe:
    address: 0.0.0.0:4433
    generation: 3
"""

RETURN = r"""
address:
  description: Address of the group.
  type: str
  returned: when packets were sent
  sample: 0.0.0.0:4433
passed:
  description: Whether all were given to the working generation.
  type: bool
  returned: when packets were sent
  sample: true
generation:
  description: The working generation.
  type: int
  returned: when packets were sent
  sample: 3
sent:
  description: Packets sent.
  type: int
  returned: when packets were sent
  sample: 8
answered:
  description: Answers of the service.
  type: int
  returned: when packets were sent
  sample: 8
received:
  description: Packets that the working generation was given meanwhile, including packets of clients.
  type: int
  returned: when packets were sent
  sample: 8
dispatch_errors:
  description: Packets of new flows that no socket could be given meanwhile.
  type: int
  returned: when packets were sent
  sample: 0
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.udpgrm.fleet.plugins.module_utils._host import Host, HostError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "address": {"type": "str", "required": True},
            "count": {"type": "int", "default": 8},
            "timeout": {"type": "int", "default": 1},
            "generation": {"type": "int"},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        host = Host.of_module(module)
        answer = host.probe(params["address"], params["count"], params["timeout"])
    except HostError as error:
        module.fail_json(msg=str(error))
    del answer["schema"]
    if not answer["passed"]:
        module.fail_json(
            msg=f"{answer['address']}: of {answer['sent']} packets generation {answer['generation']} received "
            f"{answer['received']}, dispatch errors {answer['dispatch_errors']}",
            **answer,
        )
    if params["generation"] not in (None, answer["generation"]):
        module.fail_json(
            msg=f"{answer['address']}: generation {answer['generation']} is active, not {params['generation']}",
            **answer,
        )
    module.exit_json(changed=False, **answer)


if __name__ == "__main__":
    main()
