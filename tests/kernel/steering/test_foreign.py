# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Servers with a reuseport program of their own, on the sockets of a group."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Optional

import pytest

import udpgrm.client as grm
from testing.host import (
    ROOT,
    Host,
    client,
    plain_socket,
    received,
    remove_cgroup,
    wait_for,
    wait_for_index,
)
from testing.waiting import PATIENCE_S
from tests.kernel.restart_fixtures import edge
from tests.kernel.restarts import Edge
from udpgrm.abi import Option
from udpgrm.kernel import cgroups, libbpf, sockopt
from udpgrm.restart.evidence import KernelProber
from udpgrm.restart.groups import Groups
from udpgrm.restart.prober import StepFailed
from udpgrm.services import loader

__all__ = ["edge"]

ADDRESS = "127.0.0.1:4433"
SHORT_LIVED = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import udpgrm.client as grm
grm.enroll(grm.bind("127.0.0.1:4434"), 0, timeout={PATIENCE_S})
"""
_ATTACH_CBPF, _ATTACH_EBPF, _DETACH = 51, 52, 68
_SO_LOCK_FILTER = 44
_libc = ctypes.CDLL(None, use_errno=True)


def bound() -> socket.socket:
    """Return a server's socket, not enrolled."""
    sock = plain_socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", 4433))
    return sock


def _set(sock: socket.socket, option: int, value: bytes) -> Optional[int]:
    """Set an option; the errno of a refusal."""
    if _libc.setsockopt(sock.fileno(), socket.SOL_SOCKET, option, value, len(value)):
        return ctypes.get_errno()
    return None


def attach_classic(sock: socket.socket, index: int = 0) -> Optional[int]:
    """Attach a program that gives every packet to one socket of the group."""
    code = ctypes.create_string_buffer(struct.pack("=HBBI", 6, 0, 0, index))
    return _set(sock, _ATTACH_CBPF, struct.pack("=HxxxxxxQ", 1, ctypes.addressof(code)))


def attach_extended(sock: socket.socket, extra: bytes = b"") -> Optional[int]:
    """Attach an eBPF program that leaves the choice to the kernel."""
    code = bytes.fromhex("b7000000010000009500000000000000")  # r0 = SK_PASS; exit
    fd = libbpf.prog_load(libbpf.PROG_SK_REUSEPORT, "other", code, libbpf.SK_REUSEPORT_SELECT)
    try:
        return _set(sock, _ATTACH_EBPF, struct.pack("=i", fd) + extra)
    finally:
        os.close(fd)


@pytest.fixture
def working(host: Host) -> Iterator[socket.socket]:
    """Yield the one socket of generation 1, which is active."""
    with grm.bind(ADDRESS)[0] as sock:
        grm.enroll([sock], 1)
        grm.promote(sock, 1)
        yield sock


def assert_steered(working: socket.socket, *others: socket.socket) -> None:
    """Check that new flows reach the working generation alone."""
    senders = [client() for _ in range(20)]
    for sender in senders:
        sender.sendto(b"new", ("127.0.0.1", 4433))
    got = received([working, *others])
    assert [position for position, _ in got] == [0] * 20
    for sender in senders:
        sender.close()


@pytest.mark.parametrize("enrolled", [True, False])
def test_a_servers_program_is_refused(host: Host, working: socket.socket, enrolled: bool) -> None:
    with bound() as new:
        if enrolled:
            grm.enroll([new], 2)
        assert attach_classic(new, 1) == errno.EPERM
        assert attach_extended(new) == errno.EPERM
        assert attach_extended(new, bytes(8)) == errno.EPERM  # the length of the daemon's own call
        assert _set(new, _DETACH, bytes(4)) == errno.EPERM
        assert attach_classic(working) == errno.EPERM
        assert_steered(working, new)
        line = f"SO_ATTACH_REUSEPORT_CBPF of process {os.getpid()} at {ADDRESS} was refused (EPERM)"
        wait_for(lambda: line in host.errors.read_text(), "the daemon to say so")
        assert host.errors.read_text().count("was refused (EPERM)") == 1


def test_sockets_of_no_group_keep_their_freedom(host: Host) -> None:
    with bound() as sock:
        assert attach_classic(sock) is None
        assert attach_extended(sock) is None
        assert _set(sock, _DETACH, bytes(4)) is None
        # from here on it is the group's, and udpgrm's program takes its place
        assert attach_classic(sock, 7) is None
        grm.enroll([sock], 0)
        assert attach_classic(sock) == errno.EPERM
        assert_steered(sock)
        assert host.counters(ADDRESS)["rx_processed_total"] == 20


def test_the_kernel_keeps_a_program_from_before_bind_apart(working: socket.socket) -> None:
    with plain_socket() as new:
        new.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        assert attach_classic(new) is None
        with pytest.raises(OSError, match="Address already in use"):
            new.bind(("127.0.0.1", 4433))
        assert_steered(working)


def test_sockets_bound_before_the_hooks_are_guarded(bare_host: Host) -> None:
    with bound() as early:
        bare_host.start()
        with grm.bind(ADDRESS)[0] as sock:
            grm.enroll([sock], 0)
            assert attach_classic(early) == errno.EPERM
            assert_steered(sock, early)


def test_the_next_daemon_may_attach(host: Host, working: socket.socket) -> None:
    host.kill()
    with bound() as new:
        new.setsockopt(socket.IPPROTO_UDP, Option.SOCKET_GEN, 2)
        assert attach_classic(new) == errno.EPERM  # no daemon is needed for that
        host.start()
        wait_for_index(new)
        assert_steered(working, new)


def test_the_daemon_in_a_hooked_cgroup(bare_host: Host) -> None:
    # a test's daemon is in the test's own cgroup, which is the hooked one
    bare_host.start()
    there = Path(f"/proc/{bare_host.process.pid}/cgroup").read_text().strip().rpartition(":")[2]
    assert there.endswith(bare_host.cgroup.name)
    with grm.bind(ADDRESS)[0] as sock:
        grm.enroll([sock], 0)
        assert_steered(sock)


def test_hooks_taken_off_do_not_keep_the_daemon_out(host: Host) -> None:
    with bound() as sock:
        with host.stopped():
            sock.setsockopt(socket.IPPROTO_UDP, Option.SOCKET_GEN, 0)
            assert host.run("hooks", "remove", str(host.cgroup)).returncode == 0
        wait_for(lambda: host.json("list")["groups"][0]["generations"], "the registration")
        assert_steered(sock)
        assert host.counters(ADDRESS)["rx_processed_total"] == 20


def test_a_locked_socket_is_named(host: Host) -> None:
    with grm.bind(ADDRESS)[0] as sock:
        sock.setsockopt(socket.SOL_SOCKET, _SO_LOCK_FILTER, 1)
        sock.setsockopt(socket.IPPROTO_UDP, Option.SOCKET_GEN, 0)
        wait_for(lambda: "SO_LOCK_FILTER" in host.errors.read_text(), "the daemon to say why not")
        assert "NOT steered: its filters are locked" in host.run("doctor", ADDRESS).stdout


@pytest.mark.parametrize("option", [socket.SO_BINDTODEVICE, sockopt.SO_BINDTOIFINDEX])
@pytest.mark.parametrize("where", [ADDRESS, "0.0.0.0:4434"])
def test_a_socket_in_no_group_is_named(host: Host, where: str, option: int) -> None:
    """Name a socket that a device set after bind(2) takes out of its group.

    The daemon's own attempt to attach there is not reported as another program's.
    """
    with grm.bind(where)[0] as sock:
        device = b"lo" if option == socket.SO_BINDTODEVICE else 1
        sock.setsockopt(socket.SOL_SOCKET, option, device)
        sock.setsockopt(socket.IPPROTO_UDP, Option.SOCKET_GEN, 0)
        wait_for(lambda: "in no reuseport group" in host.errors.read_text(), "the reason")
        assert "taken out of its group by the kernel" in host.run("doctor", where).stdout
    with grm.bind(where)[0] as later:  # after the message of the refused attempt
        grm.enroll([later], 0)
    assert "SO_ATTACH_REUSEPORT_EBPF" not in host.errors.read_text()


@pytest.fixture
def outside(host: Host) -> Iterator[Path]:
    """Yield a cgroup without hooks, beside that of the tests."""
    path = cgroups.default_root() / f"udpgrm-beside-{os.getpid()}"
    path.mkdir()
    yield path
    remove_cgroup(path)


def made_outside(outside: Path, home: Path) -> socket.socket:
    """Return a socket made in a cgroup without hooks, which it keeps: no hook sees it."""
    (outside / "cgroup.procs").write_text(str(os.getpid()))
    try:
        return bound()
    finally:
        (home / "cgroup.procs").write_text(str(os.getpid()))


@pytest.mark.parametrize(
    "take, message",
    [
        (attach_classic, "a program of classic BPF"),
        (attach_extended, "(other)"),
        (lambda sock: _set(sock, _DETACH, bytes(4)), "no program"),
    ],
)
def test_one_from_outside_is_noticed_and_undone(
    host: Host,
    working: socket.socket,
    outside: Path,
    take: Callable[[socket.socket], Optional[int]],
    message: str,
) -> None:
    with made_outside(outside, host.cgroup) as new:
        with host.stopped():  # a running daemon would undo it before doctor reads
            assert take(new) is None
            done = host.run("doctor", ADDRESS)
        assert done.returncode == 1
        assert "another program steers its group" in done.stdout and message in done.stdout
        # the daemon looks every 30 s, and when a process with sockets ends
        with subprocess.Popen([sys.executable, "-c", SHORT_LIVED]) as server:
            assert server.wait() == 0
        wait_for(
            lambda: "its own program is attached again" in host.errors.read_text(), "the repair"
        )
        assert message in host.errors.read_text()
        assert "another program" not in host.run("doctor", ADDRESS).stdout
        assert_steered(working, new)


def test_verify_notices_it(edge: Edge, outside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail verify by the other program, though the right instance may answer the probes."""
    assert edge.restart().returncode == 0
    # a running daemon would undo it
    with made_outside(outside, edge.host.cgroup) as new, edge.host.stopped():
        assert attach_extended(new) is None
        service = loader.load("edge", edge.services)
        groups = Groups(edge.host.directory, service.groups)
        with (
            KernelProber(service, groups) as prober,
            pytest.raises(StepFailed, match=r"steered by program [0-9]+ \(other\)"),
        ):
            prober.verify(None, 1, {})
