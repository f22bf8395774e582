#!/usr/bin/python
# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: udpgrm_dissector
short_description: Try a dissector on a host, and choose it for an address
version_added: 1.0.0
description:
  - Renders, compiles and loads a dissector of the library on the host's kernel, attached to nothing. No group
    and no packet is touched by that.
  - With O(address), the groups that are made at that address from then on are steered by it, whatever their
    application asks for. It lasts until the host is rebooted.
  - A group keeps its dissector for life. So it is refused while a group lives there with another one.
author:
  - The udpgrm authors (@udpgrm)
extends_documentation_fragment:
  - udpgrm.fleet._attributes
attributes:
  check_mode:
    support: full
    details:
      - The dissector is compiled and loaded in check mode, too. That changes nothing but the cache of templates.
  diff_mode:
    support: full
    details:
      - Shows parameters, and the source of the dissector.
  idempotent:
    support: full
options:
  name:
    description:
      - Name of the dissector, as C(udpgrm dissector list) shows it, V(flow) or V(noop).
      - Required with O(state=present).
    type: str
  parameters:
    description:
      - Parameters of the dissector. C(udpgrm dissector show) names them.
    type: dict
    default: {}
  address:
    description:
      - Address of groups it is chosen for, written V(192.0.2.1:443) or V([2001:db8::1]:443).
      - Without it the dissector is tried only.
      - Required with O(state=absent).
    type: str
  flows:
    description:
      - Entries of a flow table. Only for O(name=flow).
    type: int
  state:
    description:
      - V(absent) lets applications choose again.
    type: str
    choices:
      - present
      - absent
    default: present
"""

EXAMPLES = r"""
- name: Check that a dissector of our own loads on this kernel
  udpgrm.fleet.udpgrm_dissector:
    name: game_session
    parameters:
      offset: 4

- name: Steer QUIC by connection ID
  udpgrm.fleet.udpgrm_dissector:
    name: quic
    parameters:
      cid_length: 8
    address: 192.0.2.1:443

- name: Leave it to the application
  udpgrm.fleet.udpgrm_dissector:
    address: 192.0.2.1:443
    state: absent
"""

RETURN = r"""
loaded:
  description: Whether it was compiled and loaded. V(flow) and V(noop), which every daemon loads, are not tried.
  type: bool
  returned: when O(state=present)
  sample: true
log:
  description: The end of the verifier's log.
  type: str
  returned: when it could not be loaded
  sample: ""
before:
  description: What was chosen for the address, V(null) for nothing.
  type: dict
  returned: success and O(address) is given
  sample: null
after:
  description: What is chosen for the address, V(null) for nothing.
  type: dict
  returned: success and O(address) is given
  sample: {"type": "named", "name": "quic", "parameters": {"cid_length": 8}, "flows": 0}
"""

import pathlib
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.udpgrm.fleet.plugins.module_utils._host import (
    Host,
    HostError,
    JsonObject,
    operand,
)


def as_operands(parameters: JsonObject) -> list[str]:
    """Return parameters as the command line takes them."""
    return [
        f"{name}={str(value).lower() if isinstance(value, bool) else value}"
        for name, value in sorted(parameters.items())
    ]


def source(host: Host, name: str) -> str | None:
    """Return the text of a dissector's body; C(None): there is none, or no longer, which is no error."""
    try:
        return pathlib.Path(host.dissector("show", name)["path"], "body.h").read_text(
            encoding="utf-8"
        )
    except (HostError, OSError):
        return None


def described(host: Host, chosen: JsonObject | None) -> JsonObject:
    """Return diff mode's description of a choice."""
    if chosen is None:
        return {"dissector": None}
    shown = {"dissector": chosen["name"], "parameters": chosen["parameters"]}
    return {**shown, "source": source(host, chosen["name"])}


def present(module: AnsibleModule, host: Host, address: str | None) -> dict[str, t.Any]:
    """Check a dissector, and choose it if an address is given. Raises HostError."""
    params = module.params
    name, given = params["name"], as_operands(params["parameters"])
    answer = host.dissector("check", name, *given)
    if not answer["ok"]:
        module.fail_json(
            msg=f"dissector {name} does not load: {answer['reason']}",
            loaded=False,
            log=answer["log"],
        )
    if address is None:
        tried = described(host, {"name": name, "parameters": params["parameters"]})
        return {"changed": False, "loaded": True, "diff": {"before": tried, "after": tried}}
    flows = [] if params["flows"] is None else [f"--flows={params['flows']}"]
    chosen = host.dissector("set", address, name, *given, *flows, check=module.check_mode)
    return {"loaded": True, **result(host, chosen)}


def result(host: Host, answer: JsonObject) -> dict[str, t.Any]:
    """Return the module's result of a choice."""
    states = {key: answer[key] for key in ("before", "after")}
    diff = {key: described(host, state) for key, state in states.items()}
    return {"changed": answer["changed"], **states, "diff": diff}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str"},
            "parameters": {"type": "dict", "default": {}},
            "address": {"type": "str"},
            "flows": {"type": "int"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        required_if=[("state", "present", ["name"]), ("state", "absent", ["address"])],
        supports_check_mode=True,
    )
    params = module.params
    host = Host.of_module(module)
    try:
        address = None if params["address"] is None else operand(params["address"])
        if params["state"] == "present":
            outcome = present(module, host, address)
        else:
            answer = host.dissector("unset", str(address), check=module.check_mode)
            outcome = result(host, answer)
    except HostError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**outcome)


if __name__ == "__main__":
    main()
