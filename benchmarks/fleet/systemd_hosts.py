# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""A rolling restart of hosts with systemd, against the sum of its parts."""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.fleet import all_parts
from benchmarks.fleet.ansible import Ansible, Run
from benchmarks.fleet.record import INSPECT, SWITCH, WAIT, middle, model
from testing import hosts as places
from testing.processes import (
    FLEET,
    ROOT,
    check,
    ignore_signals,
    interrupt_on_signals,
    output,
    started,
)

SERVICE = "echo"
PORT = 4433
# Ansible's own default
FORKS = 5
# the service's flows end that much after their last packet, and are looked at now and then
LATE = 4.0
# The playbook's default, after each batch but the last.
BAKE_S = 10


@contextlib.contextmanager
def fleet(count: int) -> Iterator[None]:
    """Hosts, gone when the block is left."""
    owner = str(os.getpid())
    try:
        check([FLEET, "up", str(count), owner])
        yield
    finally:
        ignore_signals()
        check([FLEET, "down", owner])
        # more is to be measured
        interrupt_on_signals()


def measure(ansible: Ansible, work: Path, count: int, drain: float, parts: int) -> list[str]:
    """Deploy, restart under traffic, return the lines to print; parts: hosts with all parts."""
    inventory = work / "hosts"
    sources = [f"--inventory={inventory}", f"--inventory={ROOT}/benchmarks/fleet/inventory"]
    templates = work / "templates"
    build = [sys.executable, str(ROOT / "bin" / "udpgrm"), "build"]
    environment = {**os.environ, "UDPGRM_CACHE_DIR": str(templates)}
    subprocess.run(build, env=environment, stdout=subprocess.DEVNULL, check=True)
    with fleet(count):
        inventory.write_text(output([FLEET, "inventory", str(count)]))
        server = str(ROOT / "demo" / "playbooks" / "server.yml")
        ansible.play(server, *sources, forks=FORKS, name="server")
        prebuilt = ["udpgrm_templates=prebuilt", f"udpgrm_templates_directory={templates}"]
        options = [word for item in prebuilt for word in ("--extra-vars", item)]
        ansible.play("udpgrm.fleet.site", *sources, *options, forks=FORKS, name="site")
        run = _restart(ansible, sources, inventory, work, drain)
        lines = report(run, count)
        if parts:
            lines += ["", *all_parts.measure(ansible, work, sources, inventory, min(parts, count))]
    return lines


def _restart(
    ansible: Ansible, sources: list[str], inventory: Path, work: Path, drain: float
) -> Run:
    generator = [FLEET, "exec", "client", sys.executable, "-m", "benchmarks.fleet.traffic"]
    generator += [f"--hold={drain - LATE}", f"--out={work / 'flows'}", "--limit=1200"]
    for name, address in places.addresses(inventory).items():
        generator.append(f"--target={name}={address}:{PORT}")
    with started(generator, piped=True) as traffic:
        assert traffic.stdin and traffic.stdout
        if traffic.stdout.readline() != "ready\n":
            raise RuntimeError("not every flow of the generator was answered")
        options = ("--extra-vars", f"udpgrm_service={SERVICE}", "--extra-vars", "udpgrm_report=")
        playbook = "udpgrm.fleet.rolling_restart"
        run = ansible.measure(playbook, *sources, *options, forks=FORKS, name="restart")
        traffic.stdin.close()
        if traffic.wait():
            raise RuntimeError(f"the generator failed with status {traffic.returncode}")
    return run


def report(run: Run, count: int) -> list[str]:
    """Say how long it took, what of, and how often Ansible asked hosts."""
    record = run.record
    if len(record.switches) < count or len(record.drains) < count:
        raise RuntimeError(
            f"{len(record.switches)} switches and {len(record.drains)} drains of {count} hosts"
        )
    switch = middle(list(record.switches.values()))
    drain = middle(list(record.drains.values()))
    bakes = BAKE_S * (len(record.batches) - 1)
    turns = sum(math.ceil(size / FORKS) for size in record.batches)
    own = model(record.batches, FORKS, switch, bakes, drain)
    trip = middle(record.module_seconds(SWITCH))
    seen = model(record.batches, FORKS, trip, bakes, drain)
    one_by_one = count * drain
    lines = [
        f"{count} systemd hosts, batches {'+'.join(map(str, record.batches))}, {FORKS} forks",
        f"  run                          {run.seconds:7.1f} s",
        f"  switch, by the host's journal {switch:6.2f} s   (module, seen from here: {trip:.2f} s)",
        f"  drain, by the host's journal {drain:7.1f} s",
        f"  {turns} turns x switch + bakes + one drain, by journals {own:.1f} s:"
        f" run / model = {run.seconds / own:.2f}",
        f"  the same with the module's time             {seen:.1f} s:"
        f" run / model = {run.seconds / seen:.2f}",
        f"  hosts x drain                {one_by_one:7.1f} s:"
        f" run / (hosts x drain) = {run.seconds / one_by_one:.3f}",
        "  where it went (shares of the run)",
    ]
    for name, seconds in record.tasks.most_common(6):
        lines.append(f"    {seconds / run.seconds:6.1%}  {name}")
    rest = run.seconds - sum(record.tasks.values())
    lines.append(f"    {rest / run.seconds:6.1%}  before the first task and after the last")
    lines.append(f"  CPU of the control node per host: {run.cpu / count:.2f} s")
    return lines + trips(run, count)


def trips(run: Run, count: int) -> list[str]:
    """Round trips per host, by module; waits longer than an interval are counted apart."""
    by_host = run.record.of_host()
    lines = ["  round trips per host (median, most)"]
    for module in (SWITCH, INSPECT, WAIT):
        counts = [counted[module] for counted in by_host.values()]
        lines.append(f"    {module:22} {middle(counts):4.0f} {max(counts):4d}")
    sums = [sum(counted.values()) for counted in by_host.values()]
    without = [sum(counted.values()) - max(0, counted[WAIT] - 1) for counted in by_host.values()]
    within = sum(total <= 3 for total in sums)
    lines.append(f"    {'all':22} {middle(sums):4.0f} {max(sums):4d}")
    lines.append(f"    {'all, one wait a host':22} {middle(without):4.0f} {max(without):4d}")
    lines.append(f"  {within} of {count} hosts took at most 3")
    return lines
