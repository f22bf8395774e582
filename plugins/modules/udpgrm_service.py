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
requirements:
  - PyYAML on the host
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

- name: Forget it
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

import traceback

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.udpgrm.fleet.plugins.module_utils._definition import (
    HEADER,
    apply,
    compare,
    validate,
)
from ansible_collections.udpgrm.fleet.plugins.module_utils._host import (
    Host,
    HostError,
    service_name,
)

try:
    import yaml
except ImportError:
    YAML_ERROR: str | None = traceback.format_exc()
else:
    YAML_ERROR = None


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
    params = module.params
    present = params["state"] == "present"
    if not present and params["definition"] is not None:
        module.fail_json(msg="definition is not allowed with state=absent")
    if present and YAML_ERROR:
        module.fail_json(msg=missing_required_lib("PyYAML"), exception=YAML_ERROR)
    text = None
    if present:
        text = HEADER + yaml.safe_dump(params["definition"], sort_keys=False)
    # a definition is removed also where the command is gone
    host = Host.of_module(module) if present else None
    try:
        change = compare(service_name(params["name"]), text)
        if change.changed:
            if host is not None:
                validate(host, change, module.tmpdir)
            if not module.check_mode:
                apply(change, module.atomic_move, module.tmpdir)
    except (HostError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=change.changed, path=str(change.path), diff=change.diff())


if __name__ == "__main__":
    main()
