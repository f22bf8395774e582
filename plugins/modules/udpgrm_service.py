#!/usr/bin/python
# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: udpgrm_service
short_description: Define a UDP service that can be restarted
version_added: 1.0.0
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
      - Exactly one of O(name) and O(definitions) is required.
    type: str
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
      - Required with O(name) and O(state=present), not allowed with O(state=absent).
    type: dict
  definitions:
    description:
      - Definitions of several services by their names, which are written in one round trip up to one that is not valid.
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

- name: Define two services at once
  udpgrm.fleet.udpgrm_service:
    definitions:
      stun:
        groups: [{address: "192.0.2.1:3478"}]
        instances: {unit: stun@.service}
      turn:
        groups: [{address: "192.0.2.1:3479"}]
        instances: {unit: turn@.service}

- name: Delete the definition
  udpgrm.fleet.udpgrm_service:
    name: dns
    state: absent
"""

RETURN = r"""
path:
  description: The file of the definition.
  type: str
  returned: success and O(name) is given
  sample: /etc/udpgrm/services.d/dns.yaml
paths:
  description: The files that were changed, or would be.
  type: list
  elements: str
  returned: success
  sample: [/etc/udpgrm/services.d/dns.yaml]
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


def diff(change: JsonObject) -> JsonObject:
    """Return a change for Ansible's diff mode."""
    path, before, after = change["path"], change["before"], change["after"]
    return {
        "before": shown(before, after),
        "after": shown(after, before),
        "before_header": path,
        "after_header": path,
    }


def define(module: AnsibleModule, definitions: JsonObject) -> list[JsonObject]:
    """Write definitions, and return the changes. Raises HostError for the first one that is not valid."""
    host, check = Host.of_module(module), module.check_mode
    return [
        host.define(service_name(name), HEADER + json.dumps(definition), check)
        for name, definition in definitions.items()
    ]


def remove(module: AnsibleModule, name: str) -> JsonObject:
    """Remove a definition, and return the change. Raises HostError."""
    if module.get_bin_path("udpgrm") is None:
        return remove_without_command(name, module.check_mode)
    return Host.of_module(module).remove(name, module.check_mode)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "definition": {"type": "dict"},
            "definitions": {"type": "dict"},
        },
        required_one_of=[("name", "definitions")],
        mutually_exclusive=[("name", "definitions"), ("definition", "definitions")],
        supports_check_mode=True,
    )
    params = module.params
    name, definition, several = (params[key] for key in ("name", "definition", "definitions"))
    if params["state"] == "absent" and (definition is not None or name is None):
        module.fail_json(msg="state=absent is for one name, without a definition")
    if params["state"] == "present" and name is not None and definition is None:
        module.fail_json(msg="state is present but all of the following are missing: definition")
    try:
        if params["state"] == "absent":
            changes = [remove(module, service_name(name))]
        else:
            changes = define(module, several if name is None else {name: definition})
    except (HostError, OSError, ValueError) as error:
        module.fail_json(msg=str(error))
    changed = [change for change in changes if change["changed"]]
    one = {} if name is None else {"path": changes[0]["path"]}
    module.exit_json(
        changed=bool(changed),
        paths=[change["path"] for change in changed],
        diff=[diff(change) for change in changes] if name is None else diff(changes[0]),
        **one,
    )


if __name__ == "__main__":
    main()
