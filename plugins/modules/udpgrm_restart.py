#!/usr/bin/python
# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: udpgrm_restart
short_description: Restart a UDP service without losing a packet
version_added: 1.0.0
description:
  - Replaces the instance of a service that serves by a new one, as a transaction on the host. The new
    instance is started, probed before any client reaches it, promoted, and probed again. The old one keeps its flows
    until they end.
  - The transaction runs in a unit of its own. So it runs to its end, or rolls back, when Ansible or the connection to the host
    is lost.
  - Does nothing where the service runs an instance of O(release) already.
  - Where a restart has replaced a unit that the role had adopted, and has ended, that unit is disabled and the service
    starts with the host.
author:
  - The udpgrm authors (@udpgrm)
extends_documentation_fragment:
  - udpgrm.fleet._attributes
attributes:
  check_mode:
    support: full
    details:
      - Returns the plan of the restart. What would refuse it fails in check mode, too.
  diff_mode:
    support: full
    details:
      - Shows generation and release.
  idempotent:
    support: full
    details:
      - A restart to the same release that still continues is waited for, which is no change.
options:
  service:
    description:
      - Name of the service, as it is defined on the host.
    type: str
    required: true
  state:
    description:
      - V(started) restarts the service unless an instance of O(release) serves.
      - If a restart to the same release runs, V(started) waits for it. If one was interrupted or has failed, it resumes it.
      - If a restart to another release neither drains nor has ended, V(started) is refused where O(release) is given. Where it
        is not, that restart is resumed, and the next one follows.
      - V(resumed) only resumes a restart that was interrupted or has failed.
      - V(rolled_back) rolls back to the old instance while that drains.
    type: str
    choices:
      - started
      - resumed
      - rolled_back
    default: started
  release:
    description:
      - Any name for what new instances run, for example a version. The host records it for the instance.
      - Without it, a fingerprint of the template unit, the definition of the service, and the files that the unit's
        commands and environment name. Files that those load, such as libraries, are not part of it.
      - An instance that no restart has started, as one that the host starts at boot, is of an unknown release.
      - Ignored with O(state=resumed) and O(state=rolled_back).
    type: str
  wait:
    description:
      - V(verified) returns once the new instance has all new flows. The old one continues to drain.
      - V(finished) returns when the old instance has ended, too. With O(state=rolled_back), when the new one has.
    type: str
    choices:
      - verified
      - finished
    default: verified
  rollout:
    description:
      - The rolling restart that this belongs to. The host remembers it until that has ended there, and refuses others.
      - For the playbook C(udpgrm.fleet.rolling_restart).
    type: dict
    suboptions:
      run:
        description: Name of the run.
        type: str
        required: true
      by:
        description: Its user and control node, for people.
        type: str
        required: true
      replaces:
        description: Name of a dead run that this one replaces.
        type: str
      host:
        description: Name of the host in its inventory. By another one the same run is refused.
        type: str
      bake:
        description: Once the restart is verified, how many seconds to wait until C(inspect) is read.
        type: int
        default: 0
      inspect:
        description: Services to read then, so that this takes no round trip of its own.
        type: list
        elements: str
        default: []
seealso:
  - module: udpgrm.fleet.udpgrm_drain
  - module: udpgrm.fleet.udpgrm_service_info
"""

EXAMPLES = r"""
- name: Restart a service, and wait until the old instance has drained
  udpgrm.fleet.udpgrm_restart:
    service: dns
    release: 2.4.1
    wait: finished

- name: Resume a restart that a crash of the host's systemd has cut
  udpgrm.fleet.udpgrm_restart:
    service: dns
    state: resumed

- name: Roll back while the old instance drains
  udpgrm.fleet.udpgrm_restart:
    service: dns
    state: rolled_back
"""

RETURN = r"""
inspected:
  description: The services of C(inspect) after the bake, by name, each as M(udpgrm.fleet.udpgrm_service_info) returns it.
  type: dict
  returned: when O(rollout) asks for it, and the restart is verified
  sample: {"dns": {"changed": false, "services": [{"name": "dns", "state": "drain"}]}}
service:
  description: Name of the service.
  type: str
  returned: success
  sample: dns
plan:
  description: What a restart would do.
  type: dict
  returned: in check mode, when a restart would begin or be resumed
  sample: {"from_generation": 1, "to_generation": 2, "instance": "dns@2.service", "stops": "dns@1.service", "release": "2.4.1"}
restart:
  description: The last restart of the service, V(null) if there was none.
  type: dict
  returned: success, and when a restart did not end well
  contains:
    started:
      description: When it began, in seconds since the epoch by the host's clock.
      type: float
      sample: 1767225600.125
    state:
      description: The outcome, or the step it is in.
      type: str
      sample: drain
    step:
      description: The step it is in, or the last one.
      type: str
      sample: drain
    outcome:
      description: V(finished), V(rolled_back) or V(failed), V(null) while it continues.
      type: str
      sample: finished
    from_generation:
      description: The instance before, V(null) if none served.
      type: int
      sample: 1
    to_generation:
      description: The new instance.
      type: int
      sample: 2
    from_release:
      description: The release that served before, V(null) if unknown.
      type: str
      sample: 2.4.0
    release:
      description: The release of the new instance, V(null) if unknown.
      type: str
      sample: 2.4.1
    promotion_window_s:
      description: Time from the begin of the promotion to its proof, V(null) before that.
      type: float
      sample: 0.031
    progress:
      description: The last sample of a drain that continues, V(null) outside of drains.
      type: dict
      sample: {"elapsed_s": 12.1, "max_s": 300.0, "flows": 37}
    running:
      description: Whether a process of the host runs it.
      type: bool
      sample: true
    steps:
      description: The steps, in their order, with C(step), C(started), C(ended), C(result), C(reason), C(evidence).
      type: list
      elements: dict
      sample: [{"step": "drain", "started": 1767225600.125, "ended": null, "result": null, "reason": "", "evidence": {}}]
  sample: {"state": "drain", "step": "drain", "outcome": null, "from_generation": 1, "to_generation": 2}
notes:
  description: What an operator should know, as of clients that an adoption does not know yet. They are warnings, too.
  type: list
  elements: str
  returned: success, and when a restart did not end well
  sample: []
units:
  description: Units that were enabled or disabled, as the service's first restart has replaced a unit that the role had adopted.
  type: list
  elements: str
  returned: success
  sample: []
serves:
  description: What serves, as in RV(udpgrm.fleet.udpgrm_service_info#module:services[].serves).
  type: dict
  returned: success, and when a restart did not end well
  sample: {"generations": [2], "release": "2.4.1", "boot_id": "0f2e5a8c-3b1d-4c66-9a57-0d6f0e1b2c3d"}
rollout:
  description: The rolling restart that continues, as in RV(udpgrm.fleet.udpgrm_service_info#module:services[].rollout).
  type: dict
  returned: when O(rollout) was refused because of another one
  sample: {"run": "control:4711:123456:a1b2", "by": "root@control", "host": "edge1", "since": 1767225600.125}
before:
  description: Generation and release of the instance that served.
  type: dict
  returned: unless there was nothing to resume, or to roll back
  sample: {"generation": 1, "release": "2.4.0"}
after:
  description: Generation and release of the instance that serves.
  type: dict
  returned: unless there was nothing to resume, or to roll back
  sample: {"generation": 2, "release": "2.4.1"}
measured:
  description: The service's counters and flows at some moments, in their order.
  type: list
  elements: dict
  returned: when a restart was begun, resumed, waited for or rolled back
  contains:
    at:
      description: When, in seconds since the epoch by the host's clock.
      type: float
      sample: 1767225600.125
    processed:
      description: Packets that the groups of the service got since they were made.
      type: int
      sample: 120000
    errors:
      description: Of them, packets that were not given to the socket they belong to.
      type: int
      sample: 0
    moved:
      description: Answers that were sent on a flow of another generation.
      type: int
      sample: 0
    dropped:
      description: Packets that full receive queues dropped since the last restart began, as far as it has looked.
      type: int
      sample: 0
    flows:
      description: Flows by generation.
      type: dict
      sample: {"1": 37, "2": 4}
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.udpgrm.fleet.plugins.module_utils import _claim
from ansible_collections.udpgrm.fleet.plugins.module_utils._host import (
    Host,
    HostError,
    service_name,
)
from ansible_collections.udpgrm.fleet.plugins.module_utils._restart import (
    Task,
    Unsuccessful,
    inspect_after_bake,
)
from ansible_collections.udpgrm.fleet.plugins.module_utils._service import hand_over

ROLLOUT: dict[str, t.Any] = {
    "type": "dict",
    "options": {
        **_claim.OPTIONS,
        "bake": {"type": "int", "default": 0},
        "inspect": {"type": "list", "elements": "str", "default": []},
    },
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "service": {"type": "str", "required": True},
            "state": {
                "type": "str",
                "choices": ["started", "resumed", "rolled_back"],
                "default": "started",
            },
            "release": {"type": "str"},
            "wait": {"type": "str", "choices": ["verified", "finished"], "default": "verified"},
            "rollout": ROLLOUT,
        },
        supports_check_mode=True,
    )
    params = module.params
    rollout = _claim.from_options(params["rollout"])

    def ended() -> None:
        if rollout is not None and not module.check_mode:
            _claim.drop(params["service"], rollout.run)

    try:
        task = Task(
            host=Host.of_module(module),
            service=service_name(params["service"]),
            release=params["release"],
            wait=params["wait"],
            check=module.check_mode,
            rollout=rollout,
        )
        work = {"started": task.start, "resumed": task.resume, "rolled_back": task.roll_back}
        result = work[params["state"]]()
        # a planned restart hands over later: its old instance drains first
        planned = "plan" in result
        units = [] if planned else hand_over(task.host, task.last, module.check_mode)
    except _claim.Claimed as error:
        module.fail_json(msg=str(error), rollout=error.claim)
    except _claim.NamedTwice as error:
        module.fail_json(msg=str(error))  # the claim stays: it is of the other name
    except Unsuccessful as error:
        ended()
        module.fail_json(msg=str(error), **error.result)
    except (HostError, OSError) as error:
        ended()
        module.fail_json(msg=str(error))
    for note in task.notes:
        module.warn(f"{task.service}: {note}")
    result["changed"] |= bool(units)
    if rollout is not None and params["rollout"]["inspect"] and "measured" in result:
        result["inspected"] = inspect_after_bake(task.host, params["rollout"])
    module.exit_json(units=units, **result)


if __name__ == "__main__":
    main()
