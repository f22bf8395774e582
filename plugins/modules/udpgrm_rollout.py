#!/usr/bin/python
# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: udpgrm_rollout
short_description: Do a step of a rolling restart on a host
version_added: 1.0.0
description:
  - Runs the steps of the playbook C(udpgrm.fleet.rolling_restart), whose variables it reads.
  - Runs M(udpgrm.fleet.udpgrm_restart), M(udpgrm.fleet.udpgrm_service_info) and M(udpgrm.fleet.udpgrm_drain) on the host.
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
    support: full
options:
  step:
    description:
      - V(switch) restarts the services, unless the rollout is to stop. It also inspects them after the bake, unless their batch
        is larger than the number of forks and O(apart) is set.
      - V(inspect) reads the state and counters of services that have switched.
      - Where tasks of the operator are run, V(begin) decides whether the batch may begin, V(plan) fails where a restart
        would be refused, and V(hook) records that a task of the operator has failed.
      - V(stop) returns why the rollout has stopped.
      - V(finish) rolls back if that is asked for, waits for the old instances, and fails for what went wrong.
    type: str
    choices:
      - begin
      - hook
      - plan
      - switch
      - inspect
      - stop
      - finish
    required: true
  host:
    description:
      - The host that the task is delegated to.
    type: str
  apart:
    description:
      - Whether O(step=inspect) is a task of its own.
    type: bool
    default: false
  planned:
    description:
      - Whether O(step=begin) and O(step=plan) are tasks of their own.
    type: bool
    default: false
  hook:
    description:
      - Name of the variable whose tasks have failed. Without it, those before or after the host.
    type: str
"""

EXAMPLES = r"""
- name: Restart the services
  udpgrm.fleet.udpgrm_rollout:
    step: switch
  register: rollout_switch
"""

RETURN = r"""
run:
  description: The run that the step belongs to.
  type: dict
  returned: unless the step is skipped
  sample: {"id": "control:4711:123456:a1b2", "at": 1767225600.125}
steps:
  description: What was done for each service, and the result of the module.
  type: list
  elements: dict
  returned: unless the step is skipped
  sample: [{"step": "switch", "service": "dns", "result": {"changed": true}}]
"""
