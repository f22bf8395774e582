# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Instances that close sockets, end or crash: new flows reach what lives, at once."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

import udpgrm.client as grm
from testing.host import Host, client, close, received, wait_for
from tests.kernel.adoption.test_adoption import Units, enroll, units
from tests.kernel.adoption.test_adoption import ask as ask_names

__all__ = ["units"]

WHERE = "127.0.0.1:4433"
TO = ("127.0.0.1", 4433)


def generation(number: int, count: int, where: str = WHERE) -> list[socket.socket]:
    sockets = grm.bind(where, count)
    grm.enroll(sockets, number)
    return sockets


#: So many small packets are in a socket's receive buffer at most, which holds some 256.
AT_ONCE = 100


def ask(sockets: Sequence[socket.socket], count: int = 100) -> Counter[int]:
    """Return how many of new flows each of the sockets gets, by its position."""
    got: Counter[int] = Counter()
    for sent in range(0, count, AT_ONCE):
        clients = [client() for _ in range(min(AT_ONCE, count - sent))]
        for sock in clients:
            sock.sendto(b"?", TO)
        got.update(position for position, _ in received(sockets))
        for sock in clients:
            sock.close()
    assert got.total() == count
    return got


def ask_until_all_work(sockets: Sequence[socket.socket], count: int) -> Counter[int]:
    """Begin new flows until each of the first sockets has got one.

    However the entries of closed sockets were drawn: one that has a single entry of 64 is left out
    by all of them with a probability of 1e-34.
    """
    got: Counter[int] = Counter()
    while not all(got[position] for position in range(count)):
        assert got.total() < 5000, got
        got += ask(sockets)
    return got


@pytest.fixture(params=[False, True], ids=["daemon", "no-daemon"])
def dead_daemon(request: pytest.FixtureRequest) -> bool:
    """Return whether the daemon is killed before the sockets close: the kernel needs none."""
    return bool(request.param)


@pytest.mark.parametrize("order", ["first", "last", "scattered"])
def test_a_working_instance_with_fewer_workers(host: Host, dead_daemon: bool, order: str) -> None:
    old, new = generation(1, 16), generation(2, 64)
    grm.promote(new[0], 2)
    if dead_daemon:
        host.kill()
    kept = {"first": new[:8], "last": new[56:], "scattered": new[3::8]}[order]
    close(*(sock for sock in new if sock not in kept))
    got = ask_until_all_work([*kept, *old], len(kept))
    assert not any(got[position] for position in range(8, 24)), got
    if not dead_daemon:
        assert "rx_new_flow_working_gen_dispatch_error" not in host.counters(WHERE)
        late = generation(2, 1)
        assert ask([*kept, *late, *old], 400)[8] > 10  # an equal share
        close(*late)
    close(*kept)
    close(*old)


def test_nothing_of_the_working_generation_lives(host: Host, dead_daemon: bool) -> None:
    """Select the newest draining generation, then the one before; those not promoted come last."""
    sockets = {number: generation(number, 2) for number in (31, 33, 34, 36)}
    grm.promote(sockets[34][0], 34)
    if dead_daemon:
        host.kill()
    for number in (34, 33, 31):
        living = [sock for one in sockets.values() for sock in one if sock.fileno() >= 0]
        got = ask(living)
        assert {living[position] for position in got} <= set(sockets[number]), number
        close(*sockets[number])
    assert sum(ask(sockets[36]).values()) == 100
    if not dead_daemon:
        assert host.counters(WHERE)["rx_new_flow_working_gen_dispatch_error"] == 300
        by_number = {item["generation"]: item for item in host.group(WHERE)["generations"]}
        assert by_number[36]["packets_in"] == 100
    close(*sockets[36])


def test_an_adopted_instance_crashes(bare_host: Host, units: Units) -> None:
    """Give its new flows to the old instance, and collect the dead sockets at once."""
    host = bare_host
    host.start(fault="import udpgrm.daemon.server as server; server.COLLECT_EVERY = 1e6")
    old, new = units.start("old"), units.start("new")
    for unit, number in ((old, 1), (new, 2)):
        assert enroll(host, unit, "--count=2", f"--gen={number}").returncode == 0
    assert host.run("working-gen", WHERE, "2").returncode == 0
    assert ask_names(20) == {"new"}
    (new.cgroup / "cgroup.kill").write_text("1")
    new.process.wait()
    wait_for(lambda: not new.cgroup_processes(), "the end of its workers")
    assert ask_names(50) == {"old"}
    # because of the end, as it never comes by itself
    wait_for(lambda: [item["sockets_alive"] for item in generations(host)] == [2], "collection")


def generations(host: Host) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = host.group(WHERE)["generations"]
    return found
