#!/usr/bin/python
# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: udpgrm_instances
short_description: Run services' first instances, or end services
version_added: 0.1.0
description:
  - Starts the first instance of each service that has none, and lets it start with the host. Running ones are left alone.
  - Stops all instances of a service that is to end, if no flow is left to be lost.
  - For the role C(udpgrm.fleet.udpgrm), which has written the units C(NAME@.service) and C(NAME-first.service).
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
  services:
    description:
      - Names of the services.
    type: list
    elements: str
    required: true
  state:
    description:
      - V(started) fails, with exit code and the last lines of the journal, where an instance does not start.
      - V(ended) fails where a service has flows, or where its flows are not counted and an instance runs.
    type: str
    choices:
      - started
      - ended
    default: started
"""

EXAMPLES = r"""
- name: Run what does not run
  udpgrm.fleet.udpgrm_instances:
    services:
      - dns
"""

RETURN = r"""
units:
  description: Units that were enabled, started, stopped or disabled, or would be.
  type: list
  elements: str
  returned: success
  sample: [dns-first.service]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.udpgrm.fleet.plugins.module_utils._host import (
    Host,
    HostError,
    service_name,
)
from ansible_collections.udpgrm.fleet.plugins.module_utils._instances import (
    Systemd,
    end,
    start,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "services": {"type": "list", "elements": "str", "required": True},
            "state": {"type": "str", "choices": ["started", "ended"], "default": "started"},
        },
        supports_check_mode=True,
    )
    systemd = Systemd(module.run_command, module.check_mode)
    try:
        names = [service_name(name) for name in module.params["services"]]
        if module.params["state"] == "started":
            for name in names:
                start(systemd, name)
        else:
            host = Host.of_module(module)
            for name in names:
                end(systemd, host, name)
    except HostError as error:
        module.fail_json(msg=str(error), units=systemd.changed)
    before = "".join(f"{unit}\n" for unit in systemd.changed)
    module.exit_json(
        changed=bool(systemd.changed),
        units=systemd.changed,
        diff={"before": "", "after": before},
    )


if __name__ == "__main__":
    main()
