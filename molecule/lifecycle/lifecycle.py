# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Runs the playbooks as a service comes, changes and has to go, and evaluates each run.

    lifecycle.py --inventory FILE --report FILE -- ansible-playbook OPTIONS...

A server without udpgrm support runs on every host, with clients, before anything is
deployed. The first restart moves them. Then another control node begins a rollout while
one runs, and the service is to be removed while it has a client.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from subprocess import Popen
from typing import Any

from testbed import scenario, steady
from testing.processes import FLEET, ROOT, output

PORT = 4433
#: For what hangs: a deployment takes half a minute, and several on a busy machine.
LIMIT_S = 900
#: Seconds, a little more than the flow timeout of the definition's dissector.
FLOW_S = 5
OLD = "old-echo.service"
CLAIM = "/var/lib/udpgrm/restarts/echo.rollout"
GONE = {"udpgrm_services": [{"name": "echo", "state": "absent"}]}


class Runs:
    """Runs of playbooks; well: whether all were as expected."""

    def __init__(self, command: Sequence[str], report: Path) -> None:
        self._command = command
        self._report = report
        self.well = True

    def _playbook_command(self, playbook: str, node: str, variables: dict[str, Any]) -> list[str]:
        given = {"udpgrm_service": "echo", "udpgrm_report": str(self._report), **variables}
        command = [*self._command, "--extra-vars", json.dumps(given), f"udpgrm.fleet.{playbook}"]
        if node:
            script = 'hostname "$1"; shift; exec "$@"'
            command = ["unshare", "--uts", "sh", "-ec", script, "sh", node, *command]
        return command

    def begun(self, playbook: str, **variables: Any) -> AbstractContextManager[Popen[str]]:
        """Begin a run; it is killed when the block is left."""
        return scenario.begun(self._playbook_command(playbook, "", variables))

    def run(
        self,
        what: str,
        playbook: str,
        *options: str,
        messages: Sequence[str] = (),
        fails: bool = False,
        changes: bool = True,
        node: str = "",
        **variables: Any,
    ) -> None:
        """Run one; messages: parts of its output. node: another name for the control node."""
        begun = time.monotonic()
        done = subprocess.run(
            [*self._playbook_command(playbook, node, variables), *options],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        seconds = time.monotonic() - begun
        self.evaluate(
            f"{what} ({seconds:.0f} s)", done.returncode, done.stdout, messages, fails, changes
        )

    def evaluate(
        self,
        what: str,
        status: int,
        output: str,
        messages: Sequence[str],
        fails: bool = False,
        changes: bool = True,
    ) -> None:
        """Compare how a run has ended with what was expected."""
        text = " ".join(output.split())
        missing = [message for message in messages if message not in text]
        has_changed = any(int(number) for number in re.findall(r"changed=([0-9]+)", output))
        well = bool(status) == fails and not missing and (fails or has_changed == changes)
        print(
            f"{what}: exit status {status}, {'something' if has_changed else 'nothing'} changed",
            flush=True,
        )
        if not well:
            expected = "a failure" if fails else "a change" if changes else "no change"
            print(f"FAILED: expected {expected}, and in the output {missing}\n{output[-12000:]}")
        self.well &= well

    def expect(self, what: str, well: bool, seen: object = "") -> None:
        """Print whether something is as it should be."""
        print(f"{what}: {'yes' if well else f'FAILED: {seen}'}")
        self.well &= well


def on_host(name: str, *command: str) -> str:
    """Run a command in a host, not through SSH; return its output, also if it fails."""
    script = f"{' '.join(command)} || true"
    return output([FLEET, "sh", name.removeprefix("fl"), "sh", "-c", script]).strip()


def migration(places: dict[str, str], runs: Runs) -> None:
    """Migrate the unit, from the first check of bare hosts to an unchanged service."""

    def at_boot() -> set[str]:
        units = f"{OLD} echo-first.service"
        return {on_host(name, f"systemctl is-enabled {units} 2>/dev/null") for name in places}

    with steady.traffic(places, PORT) as seen:
        runs.run("plan", "site", "--check", "--diff", messages=[f"+{OLD}"])
        runs.expect("the plan changed nothing", at_boot() == {"enabled"}, at_boot())
        messages = ["restart when every client has got a packet"]
        runs.run("adopt", "site", messages=messages)
        runs.expect("it starts at boot until it is replaced", at_boot() == {"enabled\ndisabled"})
        runs.run("adopt again", "site", changes=False)
        runs.run("first restart", "rolling_restart", messages=["echo: 2 updated"])
        runs.expect("the service starts at boot", at_boot() == {"disabled\nenabled"}, at_boot())
        runs.run("after it", "site", changes=False)
    for name, host in seen.items():
        well = host.is_well and host.generations == {0, 1}
        print(f"{name}: {host}{'' if well else ': FAILED'}")
        runs.well &= well


def other_control_node(places: dict[str, str], runs: Runs) -> None:
    """Begin a rollout while another one runs: refused, instead of a dead one, after it."""
    me = os.uname().nodename
    everything: dict[str, Any] = {"udpgrm_batches": ["100%"], "udpgrm_bake": 0}
    refusal = [f"a rollout of root@{me} continues since", "udpgrm_other_rollout=replace"]

    def claims() -> list[str]:
        return [on_host(name, f"cat {CLAIM} 2>/dev/null") for name in places]

    def await_claims() -> None:
        deadline = time.monotonic() + LIMIT_S
        while not all(claims()):
            if time.monotonic() > deadline:
                raise RuntimeError("the rollout does not begin")
            time.sleep(0.1)

    def other(what: str, **variables: Any) -> None:
        runs.run(what, "rolling_restart", node="elsewhere", **{**everything, **variables})

    with contextlib.ExitStack() as clients:
        for address in places.values():
            clients.enter_context(steady.client_that_stays(address, PORT))
        with runs.begun("rolling_restart", udpgrm_release="2", **everything):
            await_claims()
            other("another control node", fails=True, messages=refusal, udpgrm_release="3")
        other("after the first was killed", fails=True, messages=refusal, udpgrm_release="3")
    messages = ["echo: 2 updated"]
    other("in its place", messages=messages, udpgrm_release="3", udpgrm_other_rollout="replace")
    with contextlib.ExitStack() as clients:
        for address in places.values():
            clients.enter_context(steady.client_that_stays(address, PORT))
        with runs.begun("rolling_restart", udpgrm_release="4", **everything) as first:
            await_claims()
            clients.close()
            other(
                "after its end",
                messages=["echo: 2 unchanged"],
                changes=False,
                udpgrm_release="4",
                udpgrm_other_rollout="wait",
            )
            output, _ = first.communicate(timeout=LIMIT_S)
        runs.evaluate("the first", first.returncode, output, messages)
    runs.expect("no host has a rollout", not any(claims()), claims())


def removal(places: dict[str, str], runs: Runs) -> None:
    """Check that the service is not removed while it has clients."""
    with contextlib.ExitStack() as clients:
        for address in places.values():
            clients.enter_context(steady.client_that_stays(address, PORT))
        time.sleep(FLOW_S)
        messages = ["echo: 1 flows would be lost"]
        runs.run("removal with a client", "site", fails=True, messages=messages, **GONE)
    time.sleep(FLOW_S)
    instances = {on_host(name, "systemctl is-active 'echo@*'") for name in places}
    runs.expect("nothing was stopped", instances == {"active"}, instances)
    runs.run("removal", "site", **GONE)
    script = (
        f"find /etc/systemd/system /etc/udpgrm /var/lib/udpgrm -name '*echo*' ! -name {OLD};"
        " systemctl list-units --all --plain --no-legend 'echo*'"
    )
    left = {on_host(name, script) for name in places}
    runs.expect("nothing of it is left", left == {""}, left)


def work(given: scenario.Scenario) -> bool:
    """Let the service come, change and go."""
    runs = Runs(given.command, given.report)
    for part in (migration, other_control_node, removal):
        part(given.places, runs)
    return runs.well


if __name__ == "__main__":
    sys.exit(scenario.run("a service comes, changes and goes", work))
