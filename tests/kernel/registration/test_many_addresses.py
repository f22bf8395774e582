# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Enroll sockets at more addresses in an instant than there are prepared groups."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator, Sequence

import pytest

import udpgrm.client as grm
from testing.host import Host, answer, client, plain_socket, wait_for, wait_for_index
from tests.kernel.trust.unprivileged import unprivileged
from udpgrm.abi import Option

GROUPS = 150
_CONF = f"""[limits]
groups = {GROUPS + 100}
prepared_groups = 8
groups_per_user = {GROUPS}
tables_per_user = {GROUPS}
flows_per_generation = 64
"""


NO_MEMORY = """
from udpgrm.kernel import libbpf
create = libbpf.map_create
def fails(*args, **options):
    if failing():
        raise OSError(errno.ENOMEM, "Cannot allocate memory")
    return create(*args, **options)
libbpf.map_create = fails
"""


@pytest.fixture
def options(bare_host: Host) -> tuple[str, ...]:
    """Return the daemon's options: few groups are prepared, and tables are small."""
    config = bare_host.scratch / "conf"
    config.write_text(_CONF)
    return (f"--config={config}",)


@contextlib.contextmanager
def bound() -> Iterator[list[socket.socket]]:
    """Yield sockets at as many addresses as there can be groups of a user."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(plain_socket()) for _ in range(GROUPS)]
        for number, sock in enumerate(sockets):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(("127.0.0.1", 20000 + number))
        yield sockets


def enroll(sockets: Sequence[socket.socket]) -> None:
    """Ask for generation 1, and for its promotion, as fast as it goes."""
    for sock in sockets:
        grm.set_option(sock, Option.SOCKET_GEN, struct.pack("=I", 1))
        grm.promote(sock, 1)
        assert grm.socket_generation(sock).generation == 1


def check(sockets: Sequence[socket.socket]) -> None:
    """Wait until each socket has its index; then each gets its address's packets."""
    for sock in sockets:
        wait_for_index(sock)
    with client() as peer:
        for sock in sockets:
            peer.sendto(b"ping", sock.getsockname())
    assert answer(sockets, GROUPS) == list(range(GROUPS))


def test_while_the_daemon_runs(bare_host: Host, options: tuple[str, ...]) -> None:
    bare_host.start(*options)
    with bound() as sockets:
        enroll(sockets)
        check(sockets)
    wait_for(lambda: bare_host.groups() == [], "the groups to be deleted")
    with bound() as sockets:  # ids that were used before
        enroll(sockets)
        check(sockets)


def test_while_the_daemon_is_stopped(bare_host: Host, options: tuple[str, ...]) -> None:
    bare_host.start(*options)
    with bound() as sockets:
        with bare_host.stopped():
            enroll(sockets)
            listed = bare_host.groups()
            working = [
                one["working_generation"] for group in listed for one in group["applications"]
            ]
            assert working == [1] * GROUPS
        check(sockets)


def test_registered_by_the_next_daemon(bare_host: Host, options: tuple[str, ...]) -> None:
    bare_host.start(*options, "--persist")
    bare_host.kill()
    with bound() as sockets:
        enroll(sockets)
        bare_host.start(*options, "--persist")
        check(sockets)


def test_closed_before_the_daemon_has_seen_them(bare_host: Host, options: tuple[str, ...]) -> None:
    bare_host.start(*options)
    with bare_host.stopped(), bound() as sockets:
        enroll(sockets)
    wait_for(lambda: bare_host.groups() == [], "the groups to be deleted")
    with bound() as sockets:
        enroll(sockets)
        check(sockets)


def test_without_memory_for_their_maps(bare_host: Host, options: tuple[str, ...]) -> None:
    """Delete groups meanwhile, which may free some; register the sockets afterwards."""
    bare_host.start(*options, fault=NO_MEMORY)
    with grm.bind("127.0.0.1:7000")[0] as first:
        grm.enroll([first], 1)
    bare_host.fault.touch()
    with bound() as sockets:
        enroll(sockets)
        wait_for(lambda: bare_host.groups("127.0.0.1:7000") == [], "the group to be deleted")
        wait_for(lambda: "Cannot allocate memory" in bare_host.errors.read_text(), "the failure")
        bare_host.fault.unlink()
        check(sockets)


def test_of_an_unprivileged_user(bare_host: Host, options: tuple[str, ...]) -> None:
    bare_host.start(*options)
    done = unprivileged(
        f"""
socks = [bind("127.0.0.1", None, 20000 + number) for number in range({GROUPS} + 1)]
print(*(attempt(sock, GEN, 1) for sock in socks))
"""
    )
    assert done.stdout.split() == ["done"] * GROUPS + ["EBADF"]
