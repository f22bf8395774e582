# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: hosts
author:
  - The udpgrm authors (@udpgrm)
version_added: 0.1.0
short_description: Hosts that a pattern means, or an error
description:
  - Ansible passes over what is in a play's C(hosts) and in no inventory, with a warning and exit status 0.
    This fails instead, so that a misspelt group is not taken for one that is up to date.
  - Without any host in the inventory, as in a syntax check, patterns are returned as they are.
options:
  _terms:
    description:
      - Patterns as a play's C(hosts) takes them, strings or lists of such.
    required: true
    type: list
    elements: raw
"""

EXAMPLES = r"""
- name: Work on the edge servers
  hosts: "{{ query('udpgrm.fleet.hosts', 'edge') }}"
"""

RETURN = r"""
_hostnames:
  description: Names of the hosts, in the inventory's order.
  type: list
  elements: str
"""

import typing as t

from ansible.errors import AnsibleError
from ansible.inventory.manager import InventoryManager, split_host_pattern
from ansible.plugins.lookup import LookupBase


class LookupModule(LookupBase):  # type: ignore[misc]  # Ansible is not typed
    def run(
        self, terms: list[t.Any], variables: dict[str, t.Any] | None = None, **kwargs: t.Any
    ) -> list[str]:
        """Raise AnsibleError for patterns that mean no host."""
        inventory = InventoryManager(self._loader, parse=False)
        for group, hosts in (variables or {})["groups"].items():
            inventory.add_group(group)
            for host in hosts:
                inventory.add_host(host, group=group)
        patterns = [str(item) for item in split_host_pattern(_flat(terms)) if item]
        if patterns and not inventory.hosts:
            return patterns
        for pattern in patterns:
            if pattern[0] not in "!&" and not inventory.get_hosts(pattern=[pattern]):
                raise AnsibleError(f"no host of the inventory is meant by {pattern!r}")
        # no pattern at all would mean every host
        found = inventory.get_hosts(pattern=patterns) if patterns else []
        if not found:
            raise AnsibleError(f"no host of the inventory is meant by {','.join(patterns)!r}")
        return [host.name for host in found]


def _flat(terms: list[t.Any]) -> list[str]:
    found: list[str] = []
    for term in terms:
        found += _flat(term) if isinstance(term, list) else [str("" if term is None else term)]
    return found
