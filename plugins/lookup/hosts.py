# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: hosts
author:
  - The udpgrm authors (@udpgrm)
version_added: 1.0.0
short_description: Hosts that a pattern means, or an error
description:
  - Ansible passes over what is in a play's C(hosts) and in no inventory, with a warning and exit status 0.
    This fails instead, so that a misspelt group is not reported as up to date.
  - Without any host in the inventory, as in a syntax check, patterns are returned as they are.
options:
  _terms:
    description:
      - Patterns as a play's C(hosts) takes them, strings or lists of such.
    required: true
    type: list
    elements: raw
  playbook:
    description:
      - Whether it is asked by a playbook of this collection. It then also fails for misspelt variables C(udpgrm_*), and
        where C(--limit), C(--tags) or C(--start-at-task) would leave nothing of the playbook.
    type: bool
    default: false
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
from ansible.plugins.lookup import LookupBase
from ansible_collections.udpgrm.fleet.plugins.plugin_utils import _hosts, _variables


class LookupModule(LookupBase):  # type: ignore[misc]  # Ansible is not typed
    def run(
        self, terms: list[t.Any], variables: dict[str, t.Any] | None = None, **kwargs: t.Any
    ) -> list[str]:
        """Return the hosts of patterns. Raises AnsibleError for patterns of no host."""
        given = variables or {}
        self.set_options(var_options=given, direct=kwargs)
        inventory = _hosts.Inventory(self._loader, given)
        found = inventory.meant(terms)
        if self.get_option("playbook") and inventory.is_empty:
            _hosts.refuse_empty()
        elif self.get_option("playbook"):
            wrong = _variables.misspelt(given)
            if wrong:
                raise AnsibleError(wrong)
            limited = inventory.within_limit(found, given.get("ansible_limit"))
            _hosts.check_command_line(limited, given)
        return found
