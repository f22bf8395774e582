# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Runs of the playbook rolling_reboot on hosts of the testbed, for scripts of scenarios.

The operator's tasks take a host out by a file that clients read before they begin a flow, as they
would ask a balancer.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from testbed import scenario
from testing.processes import FLEET, output

TASK = """
- name: Tell the clients
  ansible.builtin.file:
    path: "{{ out_of_service }}/{{ inventory_hostname }}"
    state: STATE
  delegate_to: localhost
"""
GATE = {"name": "ready", "command": ["true"]}


class Reboots:
    """The runs, and what is wrong with them. limit_s: of a run that hangs."""

    def __init__(self, given: scenario.Scenario, directory: Path, limit_s: float) -> None:
        self._command = [*given.command, "udpgrm.fleet.rolling_reboot"]
        self._report = given.report
        self._directory = directory
        self._limit_s = limit_s
        self.out_of_service = directory / "out"
        self.out_of_service.mkdir()
        self.well = True
        self._write("before.yml", TASK.replace("STATE", "touch"))
        self._write("after.yml", TASK.replace("STATE", "absent"))

    def _write(self, name: str, text: str) -> str:
        path = self._directory / name
        path.write_text(text)
        return str(path)

    def domains(self, domains: Mapping[str, str]) -> str:
        """Return the option for an inventory that names the domains of hosts."""
        hosts = {name: {"udpgrm_domain": domain} for name, domain in domains.items()}
        text = json.dumps({"fleet": {"hosts": hosts}})
        return f"--inventory={self._write('domains.yml', text)}"

    def run(
        self,
        what: str,
        status: int,
        expected: Counter[str],
        message: str,
        *options: str,
        **more: Any,
    ) -> None:
        """Run the playbook, and compare what became of it and of its hosts."""
        given = {
            "udpgrm_before_host": str(self._directory / "before.yml"),
            "udpgrm_after_host": str(self._directory / "after.yml"),
            "udpgrm_report": str(self._report),
            "udpgrm_gates": [GATE],
            "out_of_service": str(self.out_of_service),
            **more,
        }
        command = [*self._command, *options, f"--extra-vars={json.dumps(given)}"]
        began = time.monotonic()
        with scenario.begun(command) as process:
            output, _none = process.communicate(timeout=self._limit_s)
        result = json.loads(self._report.with_suffix(".json").read_text())
        found = Counter(host["status"] for host in result["hosts"])
        lost = sum(host["flows_lost"] or 0 for host in result["hosts"])
        well = (process.returncode, found, lost) == (status, expected, 0) and message in output
        seconds = time.monotonic() - began
        print(f"{what}: exit status {process.returncode} after {seconds:.0f} s: {dict(found)}")
        if not well:
            print(f"FAILED: expected {status}, {expected}, {message!r}\n{output[-12000:]}")
        self.well &= well

    def expect(self, what: str, well: bool) -> None:
        """Print whether something is as it should be."""
        print(f"{what}: {'yes' if well else 'FAILED'}")
        self.well &= well


def boots(names: Iterable[str]) -> dict[str, str]:
    """Return the ID of each host's boot."""
    path = "/proc/sys/kernel/random/boot_id"
    return {name: output([FLEET, "sh", name.lstrip("flvm"), "cat", path]) for name in names}
