#!/usr/bin/python
# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: udpgrm_service
short_description: Define a UDP service that can be restarted
version_added: 0.1.0
description:
  - Writes the definition of a service to C(/etc/udpgrm/services.d), or removes it.
  - The host validates the definition, also together with definitions of other services, before it replaces
    what is there. It is replaced in one step.
  - Neither starts nor stops anything. A restart that runs continues as it was begun.
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
  name:
    description:
      - Name of the service, of up to 64 lower-case letters, digits, C(_) and C(-).
    type: str
    required: true
  state:
    description:
      - Whether the service is defined.
    type: str
    choices:
      - present
      - absent
    default: present
  definition:
    description:
      - The definition, as C(docs/services.md) of the project describes it.
      - Required with O(state=present), not allowed with O(state=absent).
    type: dict
seealso:
  - module: udpgrm.fleet.udpgrm_restart
  - module: udpgrm.fleet.udpgrm_service_info
"""

EXAMPLES = r"""
- name: Define a DNS service
  udpgrm.fleet.udpgrm_service:
    name: dns
    definition:
      groups:
        - address: 192.0.2.1:53
          sockets: 4
      instances:
        unit: dns@.service
      probes:
        - type: dns
          name: health.example
      drain:
        until:
          flows: 0
          quiet_s: 2
        max_s: 60

- name: Delete the definition
  udpgrm.fleet.udpgrm_service:
    name: dns
    state: absent
"""

RETURN = r"""
path:
  description: The file of the definition.
  type: str
  returned: success
  sample: /etc/udpgrm/services.d/dns.yaml
"""

import json
import os
import pathlib

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.udpgrm.fleet.plugins.module_utils._host import (
    Host,
    HostError,
    JsonObject,
    service_name,
)

HEADER = "# Written by Ansible, the collection udpgrm.fleet: changes are lost.\n"


def shown(file: JsonObject | None, other: JsonObject | None) -> str:
    """Return a file for Ansible's diff mode, with its mode if the other one has another."""
    if file is None:
        return ""
    differs = other is not None and other["mode"] != file["mode"]
    mode = f"# mode: {file['mode']}\n" if differs else ""
    return f"{mode}{file['text']}"


def remove_without_command(name: str, check: bool) -> JsonObject:
    """Remove a definition where the host's command is gone, and answer as it would."""
    path = pathlib.Path(
        os.environ.get("UDPGRM_SERVICES_DIR", "/etc/udpgrm/services.d"), f"{name}.yaml"
    )
    before = {"text": path.read_text(), "mode": ""} if path.exists() else None
    if before is not None and not check:
        path.unlink()
    return {"path": str(path), "changed": before is not None, "before": before, "after": None}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "definition": {"type": "dict"},
        },
        required_if=[("state", "present", ["definition"])],
        supports_check_mode=True,
    )
    params, check = module.params, module.check_mode
    present = params["state"] == "present"
    if not present and params["definition"] is not None:
        module.fail_json(msg="definition is not allowed with state=absent")
    try:
        name = service_name(params["name"])
        if present:
            text = HEADER + json.dumps(params["definition"])
            change = Host.of_module(module).define(name, text, check)
        elif module.get_bin_path("udpgrm") is None:
            change = remove_without_command(name, check)
        else:
            change = Host.of_module(module).remove(name, check)
    except (HostError, OSError, ValueError) as error:
        module.fail_json(msg=str(error))
    path, before, after = change["path"], change["before"], change["after"]
    module.exit_json(
        changed=change["changed"],
        path=path,
        diff={
            "before": shown(before, after),
            "after": shown(after, before),
            "before_header": path,
            "after_header": path,
        },
    )


if __name__ == "__main__":
    main()
