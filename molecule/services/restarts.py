# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Restarts services of several kinds under load, and evaluates it by what their clients saw.

    restarts.py --inventory FILE --reports DIRECTORY -- ansible-playbook OPTIONS...

The hosts are containers, so the times of their journals and of the clients are those of
one clock.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sessions import Session, read

from testing import hosts
from testing.processes import FLEET, exit_status, output, run, started

HERE = Path(__file__).resolve().parent
#: Load on its own, before the restart and after it.
PAUSE_S = 3.0
SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Service:
    """A service, its load, and how many of a host's sessions must have spanned the switch."""

    name: str
    port: int
    load: str
    spanning: int


SERVICES = (
    Service("dns", 53, "queries.py", 0),
    Service("resolver", 5353, "queries.py", 0),
    Service("h3", 443, "downloads.py", 5),
    Service("tunnel", 51820, "tunnels.py", 5),
)


@dataclasses.dataclass(frozen=True)
class Switch:
    """A host's restart, from its journal: generations, begin and end of the promotion."""

    old: int
    new: int
    begun: float
    ended: float


def journal(host: str, service: str) -> dict[str, Any]:
    """Return the journal of a host's last restart."""
    path = f"/var/lib/udpgrm/restarts/{service}.json"
    document: dict[str, Any] = json.loads(output([FLEET, "sh", host.lstrip("fl"), "cat", path]))
    return document


def switch_of(document: dict[str, Any]) -> Switch:
    """Return the switch of a restart that has finished. Raises RuntimeError."""
    if document["outcome"] != "finished":
        raise RuntimeError(f"{document['service']}: {document['outcome']}: {document['steps']}")
    [promote] = [step for step in document["steps"] if step["step"] == "promote"]
    return Switch(
        document["from_generation"],
        document["to_generation"],
        promote["evidence"]["begin"],
        promote["ended"],
    )


def complaints(sessions: Sequence[Session], switch: Switch, spanning: int) -> list[str]:
    """Return the complaints of one host's clients."""
    found = [session.problem for session in sessions if session.problem]
    seen: set[int] = set()
    spanned = 0
    for session in sessions:
        seen.update(session.generations)
        if session.problem:
            continue
        if len(session.generations) != 1:
            found.append(f"a session was answered by the generations {session.generations}")
        elif session.begun > switch.ended and session.generations != [switch.new]:
            found.append("a session that began after the switch went to the old instance")
        elif 0 < session.established < switch.begun and session.generations != [switch.old]:
            found.append("a session was answered before the switch by the new instance")
        spanned += session.established < switch.begun and session.ended > switch.ended
    if seen != {switch.old, switch.new}:
        found.append(f"generations {sorted(seen)} answered, not {switch.old} and {switch.new}")
    if spanned < spanning:
        found.append(f"only {spanned} sessions spanned the switch")
    return found


def restart(service: Service, places: dict[str, str], command: Sequence[str]) -> list[Session]:
    """Restart a service on all hosts under load; return its sessions. Raises RuntimeError."""
    load = [FLEET, "exec", "client", sys.executable, str(HERE / service.load), str(service.port)]
    load += [f"{host}={address}" for host, address in places.items()]
    with started(load, piped=True) as clients:
        assert clients.stdin and clients.stdout
        if clients.stdout.readline() != "ready\n":
            raise RuntimeError(f"{service.name}: the load did not begin")
        time.sleep(PAUSE_S)
        status = run(command)
        time.sleep(PAUSE_S)
        clients.stdin.close()
        sessions = list(read(clients.stdout))
        if clients.wait() or status:
            raise RuntimeError(
                f"{service.name}: exit status {clients.returncode} of the load, "
                f"{status} of the playbook"
            )
    return sessions


def evaluated(service: Service, places: dict[str, str], command: Sequence[str]) -> bool:
    """Restart a service, and print the evaluation."""
    sessions = restart(service, places, command)
    well = True
    for host in places:
        document = journal(host, service.name)
        switch = switch_of(document)
        mine = [session for session in sessions if session.host == host]
        found = complaints(mine, switch, service.spanning)
        spanned = sum(
            session.established < switch.begun and session.ended > switch.ended for session in mine
        )
        print(
            f"{service.name} on {host}: generation {switch.old} -> {switch.new} in "
            f"{1000 * document['promotion_window_s']:.0f} ms; {len(mine)} sessions, "
            f"{spanned} of them across the switch, {sum(one.answers for one in mine)} answers, "
            f"{len(found)} complaints{': FAILED' if found else ''}",
            flush=True,
        )
        for message in found[:SHOWN]:
            print(f"    {message}")
        well &= not found
    return well


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="restarts under load, evaluated by clients")
    parser.add_argument("--inventory", required=True, type=Path)
    parser.add_argument("--reports", required=True, type=Path)
    parser.add_argument("--only", choices=[service.name for service in SERVICES])
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    places = hosts.addresses(arguments.inventory)

    def work() -> bool:
        well = True
        for service in SERVICES:
            if arguments.only in (None, service.name):
                report = arguments.reports / f"{service.name}.html"
                variables = f"udpgrm_service={service.name} udpgrm_bake=1 udpgrm_report={report}"
                command = [*arguments.command, "--extra-vars", variables]
                command.append("udpgrm.fleet.rolling_restart")
                well &= evaluated(service, places, command)
        return well

    return exit_status(work)


if __name__ == "__main__":
    sys.exit(main())
