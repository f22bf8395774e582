# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Ansible's own cost, on many hosts without systemd.

A bare host is a cgroup with hooks, a pin directory, a daemon and a group with two
generations. All share a network namespace; Ansible reaches them through its local
connection. They have no units, so udpgrm restart does not run there: the round trips
are those of a restart, with the modules that work on groups.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.fleet.ansible import HERE, Ansible
from benchmarks.place import Place, enter, place, templates
from benchmarks.traffic import Groups
from testing.host import Host
from testing.processes import ROOT

PLAYBOOK = str(HERE / "playbooks" / "three_trips.yml")
TRIPS = 3
FIRST_PORT = 10000


@contextlib.contextmanager
def _host(where: Place, number: int) -> Iterator[dict[str, str]]:
    """Make a bare host; yield its entry of the inventory."""
    cgroup = where.bare / f"host{number}"
    cgroup.mkdir()
    pins = Path(f"/sys/fs/bpf/udpgrm-bench-{os.getpid()}-{number}")
    host = Host(pins, cgroup, Path(tempfile.mkdtemp(prefix="udpgrm-bench-")))
    try:
        host.start()
        enter(cgroup)
        # ports are unique in the namespace
        with Groups(pins, [FIRST_PORT + number]) as groups:
            group = groups.make(generations=2, sockets=1)
            enter(where.bare)
            yield {"address": f"127.0.0.1:{group.port}", "pins": str(pins)}
    finally:
        enter(where.bare)
        host.clean()
        cgroup.rmdir()


def _inventory(work: Path, hosts: list[dict[str, str]]) -> Path:
    path = work / f"bare{len(hosts)}.json"
    common = {
        "ansible_connection": "local",
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    named = {f"bare{number}": {**host, **common} for number, host in enumerate(hosts)}
    path.write_text(json.dumps({"all": {"hosts": named}}))
    return path


def _command(work: Path) -> dict[str, str]:
    """Install a udpgrm in PATH that works on the host that the play names."""
    directory = work / "bin"
    directory.mkdir()
    command = directory / "udpgrm"
    command.write_text(
        f'#!/bin/sh\nexec /usr/bin/python3 {ROOT}/bin/udpgrm --pin-dir="$UDPGRM_BENCH_PINS" "$@"\n'
    )
    command.chmod(0o755)
    return {"PATH": f"{directory}:{os.environ['PATH']}"}


def measure(ansible: Ansible, work: Path, most: int) -> list[str]:
    """Run the round trips on more and more hosts, and with more forks; return lines to print."""
    runs = [(most // 4, 5), (most, 5), (most, 20)]
    environment = _command(work)
    lines = [
        f"bare hosts, {TRIPS} round trips each; CPU in s, ratios to the first line",
        "  hosts  forks  trips/host  CPU/trip   run/host  (ratio)",
    ]
    first = None
    with contextlib.ExitStack() as stack:
        where = stack.enter_context(place())
        stack.enter_context(templates())
        hosts = [stack.enter_context(_host(where, number)) for number in range(most)]
        for turn, (count, forks) in enumerate(runs):
            run = ansible.measure(
                PLAYBOOK,
                f"--inventory={_inventory(work, hosts[:count])}",
                f"--extra-vars=working_gen={turn % 2 + 1}",
                forks=forks,
                name=f"bare{count}-{forks}",
                environment=environment,
            )
            counts = [sum(counted.values()) for counted in run.record.of_host().values()]
            if len(counts) != count:
                raise RuntimeError(f"{len(counts)} of {count} bare hosts were asked")
            each = run.seconds / count
            first = first or each
            lines.append(
                f"  {count:5}  {forks:5}  {max(counts):10}  {run.cpu / sum(counts):8.2f}"
                f"   {each:8.2f}  ({each / first:.2f})"
            )
    return lines
