# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Unmodified DNS servers are restarted under load, with udpgrm and without."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from testing.host import Host, wait_for
from testing.load import Answer, Connections, ask_by_tcp, load
from tests.servers.configurations import KINDS, SOCKETS, Kind
from tests.servers.instances import Instance, Instances

PLAIN_RESTARTS = 3
#: At most, where test_profiles.py restarts the same server as often as it is told.
RESTARTS = 5
PORT = 5300
WHERE = f"127.0.0.1:{PORT}"
TCP = f"{WHERE}/tcp"
#: Connections to an instance that is not promoted yet, before and after it is enrolled.
EARLY_CONNECTIONS = 3
#: Load on its own before, between and after what is done to the servers.
PAUSE_S = 0.3
#: An instance that was given no packet for so long has none in a queue either.
QUIET_S = 0.5

pytestmark = pytest.mark.usefixtures("upstream")
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def enroll(host: Host, instance: Instance) -> None:
    """Put the instance's sockets into the next generation, still without packets."""
    done = host.run(
        *("enroll", WHERE, f"--cgroup={instance.cgroup}", f"--count={SOCKETS}", "--gen=next")
    )
    assert done.returncode == 0, done.stderr


def promote(host: Host, where: str = WHERE) -> tuple[float, float]:
    """Give new queries to the newest generation; when that was asked for and when done."""
    asked = time.monotonic()
    done = host.run("working-gen", where, "newest")
    assert done.returncode == 0, done.stderr
    return asked, time.monotonic()


def wait_until_quiet(host: Host, generation: int) -> None:
    """Wait until no client sends to a generation."""

    def quiet() -> bool:
        found = [
            item for item in host.group(WHERE)["generations"] if item["generation"] == generation
        ]
        return bool(found[0]["last_in_age"] >= QUIET_S)

    wait_for(quiet, f"generation {generation} to be quiet", timeout=30)


@every_kind
def test_restarts_lose_nothing(
    kind: Kind, host: Host, steered: Instances, restarts: int, figure: Callable[[str], None]
) -> None:
    restarts = min(restarts, RESTARTS)
    done = host.run("dissector", "set", WHERE, "dns")
    assert done.returncode == 0, done.stderr
    old = steered.start(kind, PORT)
    enroll(host, old)
    promoted = {old.name: promote(host)}
    with load(PORT) as queries:
        for restart in range(restarts):
            time.sleep(PAUSE_S)
            new = steered.start(kind, PORT)
            time.sleep(PAUSE_S)
            enroll(host, new)
            time.sleep(PAUSE_S)
            promoted[new.name] = promote(host)
            wait_until_quiet(host, restart)
            old.stop()
            old = new
        time.sleep(PAUSE_S)
        counts = queries.end()
        check_who_answered(queries.resolver.answers, promoted)
    figure(f"{kind.__name__}: {restarts} restarts, {counts.sent} queries, {counts.lost} lost")
    assert counts.lost == 0
    assert {answer.name for answer in queries.resolver.answers} == set(promoted)


def check_who_answered(answers: list[Answer], promoted: dict[str, tuple[float, float]]) -> None:
    """Check that no instance got a packet before its promotion, or after that of the next one.

    Queries sent in time for a promotion may be answered by either.
    """
    order = list(promoted)
    for answer in answers:
        asked, _ = promoted[answer.name]
        assert answer.received >= asked, f"{answer.name} answered before it was promoted"
        after = order[order.index(answer.name) + 1 :]
        if after:
            _, done = promoted[after[0]]
            assert answer.sent <= done, f"{answer.name} was asked after {after[0]} was promoted"


@every_kind
def test_without_udpgrm_they_lose(
    kind: Kind, plain: Instances, figure: Callable[[str], None]
) -> None:
    """Lose queries without udpgrm, so that this load would show a loss with udpgrm too."""
    old = plain.start(kind, PORT)
    with load(PORT) as queries:
        for _ in range(PLAIN_RESTARTS):
            time.sleep(PAUSE_S)
            old.stop()
            old = plain.start(kind, PORT)
        time.sleep(PAUSE_S)
        counts = queries.end()
    figure(
        f"{kind.__name__}: {PLAIN_RESTARTS} plain restarts, {counts.sent} queries, "
        f"{counts.lost} lost"
    )
    assert counts.lost > 0


@every_kind
def test_reuseport_alone_does_not_wait(
    kind: Kind, plain: Instances, figure: Callable[[str], None]
) -> None:
    """Give a new instance queries at once without steering, some of which die with the old one."""
    early = 0
    old = plain.start(kind, PORT)
    with load(PORT) as queries:
        for _ in range(PLAIN_RESTARTS):
            time.sleep(PAUSE_S)
            new = plain.start(kind, PORT)
            before = time.monotonic()
            time.sleep(PAUSE_S)
            early += new.name in queries.names_since(before)
            old.stop()
            old = new
        time.sleep(PAUSE_S)
        counts = queries.end()
    figure(
        f"{kind.__name__}: {PLAIN_RESTARTS} overlapping restarts without steering, "
        f"{counts.sent} queries, {counts.lost} lost, {early} instances asked too early"
    )
    assert early == PLAIN_RESTARTS


@every_kind
def test_connections_are_steered(
    kind: Kind, host: Host, steered: Instances, restarts: int, figure: Callable[[str], None]
) -> None:
    """Let no connection be refused, reset or accepted by an instance before its promotion."""
    done = host.run("dissector", "set", WHERE, "dns")
    assert done.returncode == 0, done.stderr
    old, early, asked = steered.start(kind, PORT), 0, 0
    enroll_both(host, old)
    promoted = {old.name: promote(host, TCP)}
    promote(host)
    with Connections(PORT) as connections:
        for restart in range(restarts):
            new = steered.start(kind, PORT)
            names = [ask_by_tcp(PORT) for _ in range(EARLY_CONNECTIONS)]
            enroll_both(host, new)
            names += [ask_by_tcp(PORT) for _ in range(EARLY_CONNECTIONS)]
            early += sum(name == new.name for name in names)
            asked += len(names)
            promoted[new.name] = promote(host, TCP)
            promote(host)
            wait_for(lambda: flows_of(host, restart) == 0, "connections to end", timeout=60)  # noqa: B023
            old.stop()
            old = new
        time.sleep(PAUSE_S)
    check_who_answered(connections.answers, promoted)
    count, failed = len(connections.answers), len(connections.failed)
    figure(
        f"{kind.__name__}: {restarts} restarts, {count + failed} connections, {failed} failed, "
        f"{early} of {asked} reached a new instance before its promotion"
    )
    assert connections.failed == []
    assert early == 0
    assert {answer.name for answer in connections.answers} == set(promoted)


def enroll_both(host: Host, instance: Instance) -> None:
    """Put the instance's sockets of both protocols into the next generation."""
    enroll(host, instance)
    done = host.run("enroll", TCP, f"--cgroup={instance.cgroup}", "--gen=next")
    assert done.returncode == 0, done.stderr


def flows_of(host: Host, generation: int) -> int:
    """Return how many connections a generation has."""
    found = host.group(TCP)["generations"]
    return sum(item["flows"] for item in found if item["generation"] == generation)


@every_kind
def test_connections_are_not_steered_without_a_group(
    kind: Kind, host: Host, steered: Instances, figure: Callable[[str], None]
) -> None:
    """Let TCP reach whichever instance listens, as docs/servers.md warns."""
    done = host.run("dissector", "set", WHERE, "dns")
    assert done.returncode == 0, done.stderr
    old = steered.start(kind, PORT)
    enroll(host, old)
    promote(host)
    steered.start(kind, PORT)
    names = [ask_by_tcp(PORT) for _ in range(60)]
    early = sum(name != old.name for name in names)
    figure(f"{kind.__name__}: {early} of {len(names)} connections reached a new instance")
    assert early > 0
