# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Reboots hosts, one domain after the other, while clients use those that are not taken out.

    reboots.py --inventory FILE --report FILE -- ansible-playbook OPTIONS...

The operator's tasks take a host out by a file that clients read before they begin a flow, as they
would ask a balancer. First nothing is done, in check mode; then three hosts are rebooted; then one
whose client never leaves is not.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from testbed import scenario, steady
from testing.processes import FLEET, output

PORT = 4433
LIMIT_S = 600
HOSTS = ["fl1", "fl2", "fl3"]
STAYS = "fl5"
TASK = """
- name: Tell the clients
  ansible.builtin.file:
    path: "{{ out_of_service }}/{{ inventory_hostname }}"
    state: STATE
  delegate_to: localhost
"""
GATE = {"name": "ready", "command": ["true"]}


class Reboots:
    """The runs, and what is wrong with them."""

    def __init__(self, given: scenario.Scenario, directory: Path) -> None:
        self._command = [*given.command, "udpgrm.fleet.rolling_reboot"]
        self._report = given.report
        self._directory = directory
        self.out_of_service = directory / "out"
        self.out_of_service.mkdir()
        self.well = True
        domains = {name: {"udpgrm_domain": "a" if name != "fl3" else "b"} for name in HOSTS}
        self._write("domains.yml", json.dumps({"fleet": {"hosts": domains}}))
        self._write("before.yml", TASK.replace("STATE", "touch"))
        self._write("after.yml", TASK.replace("STATE", "absent"))

    def _write(self, name: str, text: str) -> None:
        (self._directory / name).write_text(text)

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
            output, _none = process.communicate(timeout=LIMIT_S)
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

    def inventory(self) -> str:
        """Return the option that names the domains."""
        return f"--inventory={self._directory / 'domains.yml'}"


def boots(names: list[str]) -> dict[str, str]:
    """Return the ID of each host's boot."""
    path = "/proc/sys/kernel/random/boot_id"
    return {name: output([FLEET, "sh", name.removeprefix("fl"), "cat", path]) for name in names}


def reboots(reboot: Reboots, places: dict[str, str]) -> None:
    """Run the playbook three times."""
    before = boots([*HOSTS, STAYS])
    given = {"udpgrm_hosts": HOSTS, "udpgrm_batches": ["100%"], "udpgrm_max_domains": 1}
    options = [reboot.inventory()]
    message = "all 3 hosts would be rebooted"
    reboot.run("check mode", 0, Counter(planned=3), message, "--check", *options, **given)
    reboot.expect("it has rebooted no host", boots([*HOSTS, STAYS]) == before)
    message = "all 3 hosts rebooted and serving"
    reboot.run("three hosts, two domains", 0, Counter(rebooted=3), message, *options, **given)
    after = boots([*HOSTS, STAYS])
    reboot.expect("each has booted", all(after[name] != before[name] for name in HOSTS))
    with steady.client_that_stays(places[STAYS], PORT):
        message = f"{STAYS}: Wait until the clients have left: echo: not drained in "
        expected = Counter(failed=1, untouched=1)
        reboot.run("a client stays", 2, expected, message, udpgrm_hosts=[STAYS, "fl6"])
        reboot.expect("its host has not booted", boots([STAYS])[STAYS] == before[STAYS])
        reboot.expect("and is out of service", (reboot.out_of_service / STAYS).exists())
    (reboot.out_of_service / STAYS).unlink(missing_ok=True)


def work(given: scenario.Scenario) -> bool:
    """Reboot hosts under traffic."""
    with tempfile.TemporaryDirectory(prefix="udpgrm-reboots-") as directory:
        reboot = Reboots(given, Path(directory))
        with steady.traffic(given.places, PORT, reboot.out_of_service) as seen:
            reboots(reboot, given.places)
    # an instance of generation 0 or 1 comes with the boot; the others are those of before
    return steady.all_well(seen, lambda count: count > 0) and reboot.well


if __name__ == "__main__":
    sys.exit(scenario.run("reboots of hosts that are out of service", work))
