# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Sockets that no process has a descriptor of: passed on, or in an io_uring."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import Iterator

import pytest

import udpgrm.client as grm
from testing.host import Host, client, received, wait_for, wait_for_index
from testing.waiting import PATIENCE_S
from tests.kernel.registration import uring
from tests.kernel.registration.uring import Ring
from udpgrm.abi import Option

ADDRESS = "127.0.0.1:4433"
TO = ("127.0.0.1", 4433)
NOT_YET = "cannot be registered yet: no process has a descriptor of it"


@contextlib.contextmanager
def ring(flags: int = 0, files: int = 0) -> Iterator[Ring]:
    """Yield a ring of io_uring, where there may be one."""
    try:
        made = Ring(flags, files)
    except OSError as error:
        pytest.skip(f"no io_uring here: {error}")
    try:
        yield made
    finally:
        made.close()


def passed_on(host: Host) -> tuple[socket.socket, socket.socket]:
    """Return the ends of a channel with a socket in it that its server has enrolled and closed."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with host.stopped(), grm.bind(ADDRESS)[0] as sock:
        sock.setsockopt(socket.IPPROTO_UDP, Option.SOCKET_GEN, 1)
        socket.send_fds(here, [b"1"], [sock.fileno()])
    wait_for(lambda: NOT_YET in host.errors.read_text(), "the daemon to search for it")
    return here, there


def receive(there: socket.socket) -> socket.socket:
    """Receive a socket."""
    return socket.socket(fileno=socket.recv_fds(there, 1, 1)[1][0])


@pytest.mark.parametrize("killed", [False, True], ids=["same daemon", "next daemon"])
def test_passed_on_when_the_daemon_looks(host: Host, killed: bool) -> None:
    here, there = passed_on(host)
    if killed:
        host.kill()
        host.start()
    with here, there, receive(there) as sock:
        wait_for_index(sock)
        grm.promote(sock, 1)
        with client() as peer:
            peer.sendto(b"?", TO)
            assert len(received([sock])) == 1
    assert "closed before" not in host.errors.read_text()


def test_closed_while_it_is_passed_on(host: Host) -> None:
    for end in passed_on(host):
        end.close()
    wait_for(
        lambda: "was closed before it could be registered" in host.errors.read_text(),
        "the daemon to give it up",
    )
    wait_for(lambda: not host.groups(ADDRESS), "the group to be gone")


def test_a_server_whose_socket_only_an_io_uring_has(host: Host) -> None:
    """Leave its packets to the kernel to spread, and log that."""
    with ring(files=1) as one:
        where = uring.name_of(TO)
        kind = (socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_UDP)
        made = one.do(uring.SOCKET, kind[0], off=kind[1], length=kind[2], index=1)
        assert made == 0
        reuseport = struct.pack("=II", socket.SOL_SOCKET, socket.SO_REUSEPORT)
        turned_on = ctypes.create_string_buffer(struct.pack("=I", 1), 4)
        done = one.do(
            uring.URING_CMD,
            0,
            off=uring.SETSOCKOPT,
            addr=struct.unpack("=Q", reuseport)[0],
            index=4,
            more=turned_on,
            flags=uring.FIXED_FILE,
        )
        assert done == 0, os.strerror(-done)
        done = one.do(uring.BIND, 0, addr=where, off=16, flags=uring.FIXED_FILE)
        if done:
            pytest.skip(f"bind by io_uring: {os.strerror(-done)}")
        assert one.set_option(0, Option.SOCKET_GEN, 1, uring.FIXED_FILE) == 0
        wait_for(lambda: NOT_YET in host.errors.read_text(), "the daemon to say so")
        assert host.errors.read_text().count(NOT_YET) == 1


@pytest.mark.parametrize(
    ("of_ring", "of_request"),
    [(0, 0), (0, uring.ASYNC), (uring.SQPOLL, 0)],
    ids=["plain", "worker", "kernel thread"],
)
def test_options_sends_and_connects_by_io_uring(host: Host, of_ring: int, of_request: int) -> None:
    """Run the hooks in the server's process, or in a thread of the kernel's for it."""
    with ring(of_ring) as one, grm.bind(ADDRESS)[0] as sock, client() as peer:
        assert one.set_option(sock.fileno(), Option.SOCKET_GEN, 1, of_request) == 0
        wait_for_index(sock)
        assert one.set_option(sock.fileno(), Option.WORKING_GEN, 1, of_request) == 0
        assert grm.working_generation(sock) == 1
        peer.settimeout(PATIENCE_S)
        assert one.send(sock.fileno(), b"a reply", peer.getsockname(), of_request) == 7
        assert peer.recv(100) == b"a reply"
        assert host.counters(ADDRESS)["tx_flow_create_ok"] == 1
        buffer, name = ctypes.create_string_buffer(b"more", 4), uring.name_of(peer.getsockname())
        at = ctypes.addressof(name)
        sent = one.do(
            uring.SEND_ZC, sock.fileno(), off=at, addr=buffer, length=4, index=16, flags=of_request
        )
        assert sent == 4, os.strerror(-sent)
        assert host.counters(ADDRESS)["tx_flow_update_ok"] == 1
        with grm.bind(ADDRESS)[0] as accepted:
            done = one.do(uring.CONNECT, accepted.fileno(), addr=name, off=16, flags=of_request)
            assert done == 0, os.strerror(-done)
            [generation] = host.group(ADDRESS)["generations"]
            assert (generation["connected"], generation["sockets_alive"]) == (1, 1)
