#!/usr/bin/python
# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: udpgrm_reboot
short_description: Do a step of a rolling reboot on a host
version_added: 1.0.0
description:
  - Runs the steps around a reboot of the playbook C(udpgrm.fleet.rolling_reboot), whose variables it reads. For the
    probes it reads C(udpgrm_services) of the host.
  - Runs M(udpgrm.fleet.udpgrm_service_info) and M(udpgrm.fleet.udpgrm_claim) on the host, and probes on another one.
author:
  - The udpgrm authors (@udpgrm)
extends_documentation_fragment:
  - udpgrm.fleet._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: N/A
options:
  step:
    description:
      - V(drain) waits until all services of the host have drained.
      - V(serve) waits after the reboot until the services that served before do so again.
      - V(probe) sends the probes of their definitions from the host that the task is delegated to.
    type: str
    choices:
      - drain
      - serve
      - probe
    required: true
"""

EXAMPLES = r"""
- name: Wait until the clients have left
  udpgrm.fleet.udpgrm_reboot:
    step: drain
  register: rollout_drain
"""

RETURN = r"""
run:
  description: The run that the step belongs to.
  type: dict
  returned: always
  sample: {"id": "control:4711:123456:a1b2", "at": 1767225600.125}
steps:
  description: What became of the host, for the report.
  type: list
  elements: dict
  returned: always
  sample: [{"step": "switch", "service": "reboot", "result": {"changed": true, "rebooted": true}}]
figures:
  description: How long the drain and the reboot took, and how many flows were carried and lost.
  type: dict
  returned: success
  sample: {"drain_s": 12.5, "flows_carried": 50, "flows_lost": 0, "switch_s": 31.0}
"""
