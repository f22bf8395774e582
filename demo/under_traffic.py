# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Runs a restart of an echo service under traffic, and evaluates it.

    python3 -m demo.under_traffic --inventory FILE --service NAME --port PORT -- COMMAND...

COMMAND is the Ansible playbook that restarts the service on the hosts of FILE (made by
`testbed/fleet inventory`). Prints a table; exit status 1 when a packet was lost, a flow
moved or was misdirected, the old instance did not stop, or the traffic was not what it
should have been.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from demo import table
from testing import analysis, flows, hosts
from testing.processes import FLEET, ROOT, exit_status, run, started

WARM_UP = 3.0
# after the playbook: longer than the old flows' hold, for a last word of the new ones
TAIL = 4.0


def restart_under_traffic(inventory: Path, service: str, port: int, command: Sequence[str]) -> bool:
    """Run the command under traffic and print the table; True when all is well."""
    addresses = hosts.addresses(inventory)
    with tempfile.TemporaryDirectory(prefix="udpgrm-traffic-") as directory:
        times = Path(directory, "switches")
        out = Path(directory, "flows")
        passed = _run_both(addresses, port, command, out, times)
        reports = _evaluate(list(addresses), service, list(flows.read(out)), _switches(times))
    print(table.render(reports))
    if not passed:
        print("FAILED: the playbook")
    return passed and not any(report.problems for report in reports)


def _run_both(
    addresses: dict[str, str], port: int, command: Sequence[str], out: Path, times: Path
) -> bool:
    """Run the command while traffic flows; True when it exits with 0."""
    generator = [FLEET, "exec", "client"]
    # before Ansible, which keeps the machine busy: the traffic is to be even
    generator += [
        "nice",
        "--adjustment=-10",
        sys.executable,
        "-m",
        "testing.traffic",
        f"--out={out}",
    ]
    generator += [f"--target={name}={address}:{port}" for name, address in addresses.items()]
    callbacks = [name for name in [os.environ.get("ANSIBLE_CALLBACKS_ENABLED")] if name]
    environment = {
        "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "demo" / "callback"),
        "ANSIBLE_CALLBACKS_ENABLED": ",".join([*callbacks, "switch_times"]),
        "UDPGRM_SWITCH_TIMES": str(times),
    }
    with started(generator, piped=True) as traffic:
        assert traffic.stdin and traffic.stdout
        if traffic.stdout.readline() != "ready\n":
            raise RuntimeError("not every flow of the generator was answered")
        time.sleep(WARM_UP)
        status = run(command, environment)
        time.sleep(TAIL)
        traffic.stdin.close()
        if traffic.wait():
            raise RuntimeError(f"the generator failed with status {traffic.returncode}")
    return status == 0


def _switches(times: Path) -> dict[str, analysis.Switch]:
    """Read what the callback plugin wrote; the last switch of a host counts."""
    lines = times.read_text().splitlines() if times.exists() else []
    return {
        entry["host"]: analysis.Switch(entry["called"], entry["returned"])
        for entry in map(json.loads, lines)
    }


def _evaluate(
    names: Sequence[str],
    service: str,
    seen: Sequence[flows.Flow],
    switches: dict[str, analysis.Switch],
) -> list[analysis.HostReport]:
    reports = []
    for name in names:
        own = [flow for flow in seen if flow.host == name]
        switch = switches.get(name)
        old = analysis.old_instance(own, switch) if switch else None
        unit = hosts.stopped_unit(name, f"{service}@{old.generation}.service") if old else None
        reports.append(analysis.evaluate(name, own, switch, unit))
    return reports


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="restart an echo service under traffic")
    parser.add_argument("--inventory", required=True, type=Path)
    parser.add_argument("--service", required=True)
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    return exit_status(
        lambda: restart_under_traffic(
            arguments.inventory, arguments.service, arguments.port, arguments.command
        )
    )


if __name__ == "__main__":
    sys.exit(main())
