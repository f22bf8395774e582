# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""A rolling restart with all parts on at once, under traffic: what it costs, and what clients lose.

Tasks of the operator around hosts and batches, a gate, a window, domains, an approval, a brake
that is not pulled, and a webhook.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import json
import math
import re
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks.fleet.ansible import Ansible, Run
from benchmarks.fleet.record import PLAN, RESTART, Record, middle, model
from testbed import steady
from testing import flows
from testing import hosts as places
from testing.processes import FLEET, started

PORT = 4433
FORKS = 5
DOMAINS = 3
BAKE_S = 10
HOLD_S = 10.0
HOOKS = ("before_batch", "before_host", "after_host", "after_batch")
TASK = "Note the host"
# Runs no module, as the task that restarts has inspected the services.
IDLE = "Inspect the services"
HOOK = f"""
- name: {TASK}
  ansible.builtin.shell: echo HOOK {{{{ inventory_hostname }}}} >>{{{{ notes }}}}
  delegate_to: localhost
  vars: {{ansible_connection: local}}
"""


class Webhook(http.server.ThreadingHTTPServer):
    """Counts events by name."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.events: Counter[str] = Counter()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        """Take in a notice."""
        text = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.events[json.loads(text)["event"]] += 1
        self.send_response(204)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def _webhook() -> Iterator[Webhook]:
    with Webhook() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def _approver(path: Path) -> Iterator[None]:
    """Approve each batch as soon as it is asked for: the question deletes an earlier answer."""
    over = threading.Event()

    def work() -> None:
        draft = path.with_suffix(".new")
        while not over.wait(0.2):
            if not path.exists():
                draft.write_text("yes")
                draft.rename(path)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@dataclasses.dataclass(frozen=True)
class Parts:
    """The terms of docs/scale.md, in seconds; ask, switch and task are those of a turn of hosts."""

    ask: float
    switch: float
    task: float
    idle: float

    @classmethod
    def of(cls, record: Record) -> Parts:
        """Return the medians of a run in which each hook is one task."""
        turns = [math.ceil(size / FORKS) for size in record.batches]
        hooks = [count for n in turns for count in (1, n, n, 1)]
        times = record.times
        return cls(
            ask=middle([s / n for s, n in zip(times[PLAN], turns)]),
            switch=middle([(s - BAKE_S) / n for s, n in zip(times[RESTART], turns)]),
            task=middle([s / n for s, n in zip(times[TASK], hooks)]),
            idle=middle(times[IDLE]),
        )

    def of_turn(self) -> float:
        """Return the time of a turn of hosts, with a task of the operator before and after."""
        return self.ask + self.switch + 2 * self.task

    def of_batch(self) -> float:
        """Return the time of a batch beside its turns: two tasks of the operator, three idle."""
        return 2 * self.task + 3 * self.idle


def _variables(work: Path, names: list[str], url: str) -> dict[str, object]:
    given: dict[str, object] = {
        "udpgrm_service": "echo",
        "udpgrm_release": "all-parts",
        "udpgrm_hosts": names,
        "udpgrm_batches": [1, "100%"],
        "udpgrm_bake": BAKE_S,
        "udpgrm_report": str(work / "parts.html"),
        "udpgrm_max_domains": 1,
        "udpgrm_windows": ["Mon-Sun 00:00-24:00 UTC"],
        "udpgrm_gates": [{"name": "ready", "command": ["test", "-d", str(work)]}],
        "udpgrm_approval": str(work / "answer"),
        "udpgrm_brake": str(work / "brake"),
        "udpgrm_webhook": url,
        "udpgrm_support_bundle": str(work / "bundle.tar.gz"),
        "notes": str(work / "notes"),
    }
    for hook in HOOKS:
        path = work / f"{hook}.yml"
        path.write_text(HOOK.replace("HOOK", hook))
        given[f"udpgrm_{hook}"] = str(path)
    return given


def measure(
    ansible: Ansible, work: Path, sources: list[str], inventory: Path, count: int
) -> list[str]:
    """Restart the first hosts with all parts; return lines. Raises RuntimeError for a loss."""
    addresses = dict(list(places.addresses(inventory).items())[:count])
    names = list(addresses)
    domains = {name: {"udpgrm_domain": f"d{n * DOMAINS // count}"} for n, name in enumerate(names)}
    extra = work / "domains.yml"
    extra.write_text(json.dumps({"fleet": {"hosts": domains}}))
    out = work / "flows-parts"
    generator = [FLEET, "exec", "client", sys.executable, "-m", "benchmarks.fleet.traffic"]
    generator += [f"--hold={HOLD_S}", f"--out={out}", "--limit=1200"]
    generator += [f"--target={name}={address}:{PORT}" for name, address in addresses.items()]
    with (
        _webhook() as server,
        _approver(work / "answer"),
        started(generator, piped=True) as traffic,
    ):
        assert traffic.stdin and traffic.stdout
        if traffic.stdout.readline() != "ready\n":
            raise RuntimeError("not every flow of the generator was answered")
        given = _variables(work, names, f"http://127.0.0.1:{server.server_port}/")
        options = [*sources, f"--inventory={extra}", "--extra-vars", json.dumps(given)]
        playbook = "udpgrm.fleet.rolling_restart"
        run = ansible.measure(playbook, *options, forks=FORKS, name="all-parts")
        traffic.stdin.close()
        if traffic.wait():
            raise RuntimeError(f"the generator failed with status {traffic.returncode}")
    notes = Counter(line.split()[0] for line in (work / "notes").read_text().splitlines())
    waited = _waited(work / "parts.json")
    return _report(run, count, _clients(out), notes, server.events, waited)


def _waited(result: Path) -> float:
    """Return the seconds that batches have waited for an answer, as the notes of the result say."""
    found = [re.match(r"waited ([0-9]+) s", n) for n in json.loads(result.read_text())["notes"]]
    return sum(float(match[1]) for match in found if match)


def _clients(out: Path) -> steady.Seen:
    """Return what clients have seen. Raises RuntimeError if they lost anything."""
    seen = steady.Seen()
    for flow in flows.read(out):
        seen.add(flow)
    if not seen.is_well:
        raise RuntimeError(f"with all parts: {seen}")
    return seen


def _report(
    run: Run,
    count: int,
    seen: steady.Seen,
    notes: Counter[str],
    events: Counter[str],
    waited: float,
) -> list[str]:
    record = run.record
    batches = record.batches
    expected = {hook: count if hook.endswith("host") else len(batches) for hook in HOOKS}
    if sum(batches) != count or notes != expected:
        raise RuntimeError(f"batches {batches} of {count} hosts, tasks of the operator {notes}")
    drain = middle(list(record.drains.values()))
    parts = Parts.of(record)
    # with gates the last batch bakes, too
    bakes = BAKE_S * len(batches)
    between = len(batches) * parts.of_batch() + waited
    formula = model(batches, FORKS, parts.of_turn(), bakes + between, drain)
    ours = {host: trips for host, trips in record.of_host().items() if host != "localhost"}
    sums = [sum(counted.values()) for counted in ours.values()]
    lines = [
        f"{count} systemd hosts with all parts on, batches {'+'.join(map(str, batches))}",
        f"  clients: {seen}",
        f"  notices: {', '.join(f'{n} {name}' for name, n in sorted(events.items()))}",
        f"  run                          {run.seconds:7.1f} s",
        f"  ask {parts.ask:.2f} s, switch {parts.switch:.2f} s, task {parts.task:.2f} s,"
        f" idle {parts.idle:.2f} s; answers {waited:.0f} s, bakes {bakes} s, drain {drain:.1f} s",
        f"  formula {formula:.1f} s, run / formula = {run.seconds / formula:.2f}",
        f"  round trips of our own per host: median {middle(sums):.0f}, most {max(sums)}",
    ]
    for name, seconds in record.tasks.most_common(8):
        lines.append(f"    {seconds / run.seconds:6.1%}  {name}")
    return lines
