# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Rolls out on six hosts of which four have something wrong, and evaluates what becomes of each.

    rollouts.py --inventory FILE --report FILE -- ansible-playbook OPTIONS...

fl1, fl6  are well
fl2       cannot be reached: its sshd is off, its service runs on
fl3       its new instance answers nothing
fl4       its new instance answers through a socket of the old one
fl5       one client never leaves, so its old instance is never done

The playbook runs with no failure allowed, then with three, then when all is repaired.
Meanwhile the service of all six has clients, who must not notice.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from testbed import scenario, steady
from testing.processes import FLEET, ROOT

PORT = 4433
HERE = Path(__file__).resolve().parent
STATUSES = "updated|unchanged|planned|rolled back|failed|unreachable|untouched"
LIMIT_S = 300


def on_host(number: int, script: str, text: str = "") -> None:
    """Run a shell script in a host, not through SSH."""
    command = [FLEET, "sh", str(number), "sh", "-ec", script]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"fl{number}: {script}: {done.stderr}")


def break_hosts() -> None:
    """Break four hosts."""
    # its sessions as well, or Ansible's connection that is still open would do
    on_host(
        2,
        "mkdir -p /run/systemd/system/ssh.service.d; cd /run/systemd/system/ssh.service.d;"
        " printf '[Service]\\nKillMode=control-group\\n' >all.conf;"
        " systemctl daemon-reload; systemctl stop ssh.service",
    )
    for number, name in ((3, "silent_server.py"), (4, "wrong_server.py")):
        script = "cd /opt/echo; cp echo_server.py good_server.py; cat >echo_server.py"
        on_host(number, script, (HERE / name).read_text())


def repair_hosts() -> None:
    """Repair all hosts, except for the client of fl5."""
    on_host(2, "systemctl start ssh.service")
    for number in (3, 4):
        on_host(number, "cd /opt/echo; mv good_server.py echo_server.py")


class Rollouts:
    """Runs of the playbook."""

    def __init__(self, command: Sequence[str], report: Path) -> None:
        self._command = [*command, "udpgrm.fleet.rolling_restart"]
        for variable in (
            "udpgrm_service=echo",
            "udpgrm_bake=1",
            f"udpgrm_report={report}",
            '{"udpgrm_batches": [1, 1, 4]}',
        ):
            self._command += ["--extra-vars", variable]
        self.well = True

    def run(
        self,
        what: str,
        max_failures: int,
        expected: dict[str, str],
        reasons: dict[str, str] | None = None,
    ) -> None:
        """Run it, and compare what became of the hosts; reasons: patterns, of failed ones."""
        fails = reasons is not None
        begun = time.monotonic()
        done = subprocess.run(
            [*self._command, "--extra-vars", f"udpgrm_max_failures={max_failures}"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        pattern = rf"^(fl[0-9]+) +({STATUSES}) "
        found = dict(re.findall(pattern, done.stdout, re.MULTILINE))
        causes = dict(re.findall(r"^(fl[0-9]+): (.*)$", done.stdout, re.MULTILINE))
        well = found == expected and bool(done.returncode) == fails
        well &= all(re.search(why, causes.get(name, "")) for name, why in (reasons or {}).items())
        seconds = time.monotonic() - begun
        print(f"{what}: exit status {done.returncode} after {seconds:.0f} s: {found}")
        for name, reason in sorted(causes.items()):
            print(f"    {name}: {reason}")
        if not well:
            print(f"FAILED: expected {'a failure' if fails else 'success'}, {expected}, {reasons}")
            print(done.stdout[-12000:], done.stderr[-4000:])
        self.well &= well


def rollouts(places: dict[str, str], run: Rollouts) -> None:
    """Run the playbook three times."""
    names = sorted(places)
    break_hosts()
    with steady.client_that_stays(places["fl5"], PORT):
        run.run(
            "no failure allowed",
            0,
            {**dict.fromkeys(names, "untouched"), "fl1": "updated", "fl2": "unreachable"},
            {"fl2": "ssh"},
        )
        run.run(
            "three allowed",
            3,
            {
                "fl1": "unchanged",
                "fl2": "unreachable",
                "fl3": "rolled back",
                "fl4": "rolled back",
                "fl5": "failed",
                "fl6": "updated",
            },
            {
                "fl3": "canary: raw probe",
                # the numbers depend on the restarts before
                "fl4": r"generation (\d+) answered; generation (?!\1 )\d+ should have",
            },
        )
    repair_hosts()
    run.run(
        "all repaired",
        0,
        {**dict.fromkeys(names, "updated"), "fl1": "unchanged", "fl6": "unchanged"},
    )


def work(given: scenario.Scenario) -> bool:
    """Run the playbook under traffic."""
    run = Rollouts(given.command, given.report)
    with steady.traffic(given.places, PORT) as seen:
        rollouts(given.places, run)
    return steady.all_well(seen, lambda count: count > 1) and run.well


if __name__ == "__main__":
    sys.exit(scenario.run("rollouts in which things go wrong", work))
