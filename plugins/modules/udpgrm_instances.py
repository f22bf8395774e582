#!/usr/bin/python
# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: udpgrm_instances
short_description: Run services' first instances, or end services
version_added: 1.0.0
description:
  - Starts the first instance of each service that has none, and lets it start with the host. Running ones are left alone.
  - Adopts a unit that served before udpgrm came, so that the first restart of its service moves it gracefully.
  - Stops all instances of a service that is to end, if no flow is left to be lost, and removes the journals of its restarts.
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
  adopt:
    description:
      - Units that served before udpgrm came, by service. Only with O(state=started).
      - While such a unit runs, and no instance of its service does, it is made the service's working generation, and
        stays what is started with the host. Fails where it does not serve the service's addresses.
      - Once the first restart has finished it is disabled, and the service starts with the host.
    type: dict
    default: {}
  planned:
    description:
      - Whether units or definitions are only planned, so that the host cannot be asked about them. Only in check mode.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Run what does not run
  udpgrm.fleet.udpgrm_instances:
    services:
      - dns

- name: Have a service replace a unit that serves
  udpgrm.fleet.udpgrm_instances:
    services:
      - dns
    adopt:
      dns: old-dns.service
"""

RETURN = r"""
units:
  description: Units that were enabled, started, adopted, stopped or disabled, and journals that were removed, or would be.
  type: list
  elements: str
  returned: success
  sample: [dns-first.service]
notes:
  description: What is to be known of the flows of units that were adopted, a line each. Warnings, too.
  type: list
  elements: str
  returned: success
  sample: ["0.0.0.0:53: a client's flow is known once the server has sent to it again: restart when every client has got a packet"]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.udpgrm.fleet.plugins.module_utils._host import (
    Host,
    HostError,
    JsonObject,
    service_name,
)


def start(module: AnsibleModule, name: str, adopt: str | None) -> JsonObject:
    """Return what starting a service changes. Raises HostError."""
    if module.check_mode and module.params["planned"] and (adopt or not has_command(module)):
        # there is no such command or definition yet
        return {"units": [adopt or f"{name}-first.service"], "notes": []}
    return Host.of_module(module).start(name, adopt, module.check_mode)


def has_command(module: AnsibleModule) -> bool:
    """Return whether the host has the udpgrm command."""
    return module.get_bin_path("udpgrm") is not None


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "services": {"type": "list", "elements": "str", "required": True},
            "state": {"type": "str", "choices": ["started", "ended"], "default": "started"},
            "adopt": {"type": "dict", "default": {}},
            "planned": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    units: list[str] = []
    notes: list[str] = []
    try:
        for name in [service_name(name) for name in params["services"]]:
            if params["state"] == "started":
                unit = params["adopt"].get(name)
                done = start(module, name, None if unit is None else str(unit))
            else:
                done = Host.of_module(module).stop(name, module.check_mode)
            units += done["units"]
            notes += done["notes"]
    except HostError as error:
        module.fail_json(msg=str(error), units=units)
    for note in notes:
        module.warn(note)
    module.exit_json(
        changed=bool(units),
        units=units,
        notes=notes,
        diff={"before": "", "after": "".join(f"{unit}\n" for unit in units)},
    )


if __name__ == "__main__":
    main()
