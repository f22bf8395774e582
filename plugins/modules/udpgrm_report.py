#!/usr/bin/python
# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: udpgrm_report
short_description: Show how a rollout went
version_added: 0.1.0
description:
  - Prints a table of the hosts of a rollout, and what became of each.
  - Runs on the controller, once for all hosts, for the playbook C(udpgrm.fleet.rolling_restart).
author:
  - The udpgrm authors (@udpgrm)
extends_documentation_fragment:
  - udpgrm.fleet._attributes
  - udpgrm.fleet._attributes.info_module
options:
  service:
    description:
      - Name of the service.
    type: str
    required: true
  hosts:
    description:
      - What became of each host, as the filter C(udpgrm.fleet.rollout) returns it.
    type: list
    elements: dict
    required: true
  reason:
    description:
      - Why the rollout was stopped, empty if it was not.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Show what became of each host
  udpgrm.fleet.udpgrm_report:
    service: dns
    hosts:
      - host: fl1
        status: updated
        problem: ""
        from_generation: 1
        to_generation: 2
        switch_s: 0.03
        drain_s: 12.1
        flows_carried: 37
        flows_lost: 0
        moved: 0
        dropped: 0
"""

RETURN = r"""
counts:
  description: Number of hosts by what became of them.
  type: dict
  returned: success
  sample: {"updated": 5, "rolled_back": 1, "failed": 0, "unreachable": 0, "untouched": 2}
"""
