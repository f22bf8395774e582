#!/usr/bin/python
# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: udpgrm_report
short_description: Show how a rolling restart went
version_added: 1.0.0
description:
  - Prints a table of the hosts of a rolling restart and what became of each, and writes the page and the result.
  - Sets the result as a custom stat, C(rolling_restart), by the names of the services.
  - Fails when hosts were to be restarted and were passed over.
  - Runs on the control node, once for all hosts, for the playbook C(udpgrm.fleet.rolling_restart), whose variables it
    reads.
author:
  - The udpgrm authors (@udpgrm)
extends_documentation_fragment:
  - udpgrm.fleet._attributes
  - udpgrm.fleet._attributes.info_module
options: {}
"""

EXAMPLES = r"""
- name: Report
  udpgrm.fleet.udpgrm_report:
"""

RETURN = r"""
counts:
  description: Number of hosts, for each service, by what became of them.
  type: dict
  returned: success
  sample: {"updated": 5, "rolled_back": 1, "failed": 0, "unreachable": 0, "untouched": 2}
summary:
  description: What happened and what to do next, in one sentence.
  type: str
  returned: success
  sample: all 5 hosts run the release, nothing is left to do
"""
