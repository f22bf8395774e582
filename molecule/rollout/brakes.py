# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Stops rollouts on six hosts by each brake there is, and lets them continue.

    brakes.py --inventory FILE --report FILE -- ansible-playbook OPTIONS...

Tasks of the operator that fail, a gate that shuts, the brake, a refused approval, a closed
window. Each time the hosts that had begun have ended and the others have not begun, and the next
run reaches all. Meanwhile the service of all six has clients, who must not notice.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from testbed import scenario, steady
from testing.processes import FLEET

PORT = 4433
LIMIT_S = 600
NAMES = [f"fl{number}" for number in range(1, 7)]
ALL = Counter({"updated": 6})
ONE = Counter({"updated": 1, "untouched": 5})
HOOK = """
- name: Look for the file that makes it fail
  ansible.builtin.command: test ! -e /run/no-restart
  changed_when: false
"""
NOTE = """
- name: Note the host
  ansible.builtin.lineinfile:
    path: "{{ notes }}"
    line: "{{ inventory_hostname }} {{ rollout_restarts[0].status }}"
    create: true
    mode: "0644"
  delegate_to: localhost
"""
BATCH = NOTE.replace(
    "{{ inventory_hostname }} {{ rollout_restarts[0].status }}",
    "{{ rollout_begin.batch | join(' ') }}",
)


class Run:
    """A run of the playbook, whose output is read as it comes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.output = ""
        self._process = process

    def read_until(self, message: str) -> None:
        """Read until a line has a message. Raises RuntimeError if the run ends before."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.output += line
            if message in line:
                return
        raise RuntimeError(f"no line with {message!r}:\n{self.output[-8000:]}")

    def end(self) -> int:
        """Read the rest; return the exit status."""
        rest, _none = self._process.communicate(timeout=LIMIT_S)
        self.output += rest
        return self._process.returncode


class Brakes:
    """The runs, and what is wrong with them."""

    def __init__(self, given: scenario.Scenario, directory: Path, runs: ExitStack) -> None:
        self._command = [*given.command, "udpgrm.fleet.rolling_restart"]
        self._report = given.report
        self._runs = runs
        self._directory = directory
        self._release = 0
        self.well = True

    def path(self, name: str, text: str | None = None) -> Path:
        """Return a path, of a file with this text if there is one."""
        path = self._directory / name
        if text is not None:
            path.write_text(text)
        return path

    def begin(self, *options: str, **variables: Any) -> Run:
        """Begin a run to the current release."""
        given = {
            "udpgrm_service": "echo",
            "udpgrm_release": f"brakes-{self._release}",
            "udpgrm_bake": 1,
            "udpgrm_batches": [1, 5],
            "udpgrm_report": str(self._report),
            **variables,
        }
        command = [*self._command, *options, "--extra-vars", json.dumps(given)]
        return Run(self._runs.enter_context(scenario.begun(command)))

    def next_release(self) -> None:
        """Give the next runs something to restart."""
        self._release += 1

    def check(self, what: str, run: Run, status: int, expected: Counter[str], message: str) -> None:
        """Wait for the end of a run, and compare what became of it and its hosts."""
        began = time.monotonic()
        found_status = run.end()
        result = json.loads(self._report.with_suffix(".json").read_text())
        found = Counter(host["status"] for host in result["hosts"])
        lost = sum(host["flows_lost"] or 0 for host in result["hosts"])
        states = {service_of(name)["state"] for name in NAMES}
        well = (found_status, found, lost) == (status, expected, 0) and message in run.output
        well &= states <= {"settled"}
        seconds = time.monotonic() - began
        print(f"{what}: exit status {found_status} {seconds:.0f} s later: {dict(found)}, {states}")
        if not well:
            print(f"FAILED: expected {status}, {expected}, {message!r}\n{run.output[-12000:]}")
        self.well &= well


def on_host(number: int, *command: str) -> None:
    """Run a command in a host, not through SSH."""
    subprocess.run([FLEET, "sh", str(number), *command], check=True)


def hooks(brakes: Brakes) -> None:
    """Let a task of the operator fail: its host and those after it are not restarted."""
    notes = brakes.path("notes")
    given = {
        "udpgrm_before_host": str(brakes.path("before.yml", HOOK)),
        "udpgrm_after_host": str(brakes.path("after.yml", NOTE)),
        "notes": str(notes),
        "udpgrm_batches": [1, 1, 4],
    }
    on_host(2, "touch", "/run/no-restart")
    expected = Counter({"updated": 1, "failed": 1, "untouched": 4})
    message = "udpgrm_before_host: Look for the file that makes it fail"
    brakes.check("a hook fails", brakes.begin(**given), 2, expected, message)
    on_host(2, "rm", "/run/no-restart")
    expected = Counter({"unchanged": 1, "updated": 5})
    brakes.check("it continues", brakes.begin(**given), 0, expected, "echo: 5 updated")
    noted = [f"{name} updated" for name in NAMES]
    if sorted(notes.read_text().splitlines()) != sorted([*noted, "fl1 unchanged"]):
        brakes.well = False
        print(f"FAILED: the hooks noted {notes.read_text()!r}")


def gates(brakes: Brakes) -> None:
    """Shut a gate during a bake, then skip it."""
    ready = brakes.path("ready", "")
    gate = {"name": "ready", "command": ["test", "-e", str(ready)]}
    before = working("fl1")
    run = brakes.begin(udpgrm_gates=[gate], udpgrm_bake=15)
    wait_for_switch("fl1", before)
    ready.unlink()
    brakes.check("a gate shuts", run, 2, ONE, "stopped: gate ready: exit status 1")
    run = brakes.begin(udpgrm_gates=[gate], udpgrm_expedite=True)
    expected = Counter({"unchanged": 1, "updated": 5})
    brakes.check("it is skipped", run, 0, expected, "gates are skipped (udpgrm_expedite): ready")


def service_of(name: str) -> dict[str, Any]:
    """Return what a host says of its service."""
    command = [FLEET, "sh", name.removeprefix("fl"), "udpgrm", "status", "echo", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)["services"][0]
    return found


def working(name: str) -> int:
    """Return the working generation of a host."""
    return int(service_of(name)["groups"][0]["working_generation"])


def wait_for_switch(name: str, before: int) -> None:
    """Wait until a host has another working generation."""
    deadline = time.monotonic() + LIMIT_S
    while working(name) == before:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{name} does not switch")
        time.sleep(0.5)


def brake(brakes: Brakes) -> None:
    """Pause before the second batch, let it begin, and stop the next run."""
    path = brakes.path("brake")
    given = {"udpgrm_brake": str(path), "udpgrm_bake": 15}
    before = working("fl1")
    run = brakes.begin(**given)
    wait_for_switch("fl1", before)
    path.touch()
    run.read_until("says pause; delete it to continue")
    path.unlink()
    brakes.check("paused, then released", run, 0, ALL, "says pause; delete it to continue")
    brakes.next_release()
    path.write_text("stop")
    none = Counter({"untouched": 6})
    brakes.check("stopped at once", brakes.begin(**given), 2, none, f"stopped: {path} says stop")
    path.unlink()


def approval(brakes: Brakes) -> None:
    """Refuse an approval, then approve all batches."""
    answer = brakes.path("answer")
    given = {"udpgrm_approval": str(answer), "udpgrm_batches": [1, 1, 4]}
    run = brakes.begin(**given)
    run.read_until("Begin the batch of fl2?")
    answer.write_text("no")
    brakes.check("not approved", run, 2, ONE, "stopped: not approved")
    run = brakes.begin(**given)
    run.read_until("Begin the batch of fl2?")
    answer.write_text("all")
    expected = Counter({"unchanged": 1, "updated": 5})
    brakes.check("approved", run, 0, expected, "all further batches are approved")


def order(brakes: Brakes) -> None:
    """Begin outside of a window, then in batches of one domain."""
    day = time.strftime("%a", time.gmtime(time.time() + 2 * 86400))
    run = brakes.begin(udpgrm_windows=[f"{day} 00:00-24:00 UTC"])
    none = Counter({"untouched": 6})
    brakes.check("no window is open", run, 2, none, "stopped: outside of udpgrm_windows")
    domains = {name: "even" if int(name[2:]) % 2 == 0 else "odd" for name in NAMES}
    hosts_of = {name: {"udpgrm_domain": domain} for name, domain in domains.items()}
    inventory = brakes.path("domains.yml", json.dumps({"fleet": {"hosts": hosts_of}}))
    notes = brakes.path("batches")
    run = brakes.begin(
        f"--inventory={inventory}",
        udpgrm_max_domains=1,
        udpgrm_batches=["100%"],
        udpgrm_before_batch=str(brakes.path("batch.yml", BATCH)),
        notes=str(notes),
    )
    brakes.check("two domains", run, 0, ALL, "echo: 6 updated")
    if notes.read_text().splitlines() != ["fl1 fl3 fl5", "fl2 fl4 fl6"]:
        brakes.well = False
        print(f"FAILED: the batches were {notes.read_text()!r}")


def work(given: scenario.Scenario) -> bool:
    """Use each brake under traffic."""
    with ExitStack() as runs:
        directory = runs.enter_context(tempfile.TemporaryDirectory(prefix="udpgrm-brakes-"))
        brakes = Brakes(given, Path(directory), runs)
        with steady.traffic(given.places, PORT) as seen:
            for part in (hooks, gates, brake, approval, order):
                brakes.next_release()
                part(brakes)
    return steady.all_well(seen, lambda count: count > 1) and brakes.well


if __name__ == "__main__":
    sys.exit(scenario.run("rollouts that are stopped and continue", work))
