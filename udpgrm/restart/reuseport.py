# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Sharing the address of a bound socket that has no SO_REUSEPORT yet.

SO_REUSEPORT may be set after the bind, but the kernel makes the socket's reuseport group only
when a second one binds. So one is bound for a moment, of the same user, as the kernel requires.
Until its group has a program that names the first socket, some microseconds, it gets a share of
the packets; these packets are counted. So no other process may have the processor meanwhile. Of
TCP it gets connections, which the kernel gives to the first one when it closes.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import Iterable, Iterator

from udpgrm.kernel import ebpf, libbpf, pidfd, sockopt
from udpgrm.state import address

_RET_K = 0x06
_SK_PASS = 1


def is_shared(sock: socket.socket) -> bool:
    """Return whether a socket's address may be shared."""
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) != 0


def permit(sock: socket.socket, shares: bool) -> None:
    """Set or clear SO_REUSEPORT of a bound socket, which alone makes no group."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shares))


def share(sock: socket.socket) -> int:
    """Make the reuseport group of a bound socket that has the option, as a second bind does.

    Returns how many packets went astray meanwhile. Raises OSError.
    """
    where = sock.getsockname()
    code = ctypes.create_string_buffer(struct.pack("=HBBI", _RET_K, 0, 0, 0))
    first = struct.pack("@HP", 1, ctypes.addressof(code))
    with _like(sock) as second:
        if sock.type == socket.SOCK_STREAM:
            second.bind(where)
            second.listen()
            _let_migrate(second)
            return 0
        with _undisturbed():
            second.bind(where)
            second.setsockopt(socket.SOL_SOCKET, sockopt.SO_ATTACH_REUSEPORT_CBPF, first)
        return _waiting(second)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Run before every process that has no real-time priority, if the system permits it."""
    before, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, before, priority)


def share_connections(pids: Iterable[int], where: str) -> None:
    """Let others bind the local address of processes' connections of TCP at a listener's port."""
    port = address.read(where).port
    for pid in pids:
        for _, fd in pidfd.sockets_of(pid):
            with socket.socket(fileno=fd) as sock:
                is_inet = sock.family in (socket.AF_INET, socket.AF_INET6)
                if not is_inet or sock.proto != socket.IPPROTO_TCP or pidfd.is_listening(sock):
                    continue  # a listener that has the option counts as one that has its group
                if sock.getsockname()[1] == port:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def _like(sock: socket.socket) -> socket.socket:
    """Return an unbound socket that may share another's address, of the same user and device."""
    owner = os.stat(f"/proc/self/fd/{sock.fileno()}").st_uid
    own = os.geteuid()
    os.seteuid(owner)  # a socket's user is the user that creates it
    try:
        second = socket.socket(sock.family, sock.type)
    finally:
        os.seteuid(own)
    try:
        second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        # for TCP connections that remain, and for sockets that share by SO_REUSEADDR alone
        reuses = sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
        if reuses or sock.type == socket.SOCK_STREAM:
            second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        device = sockopt.ifindex(sock)
        if device:
            second.setsockopt(socket.SOL_SOCKET, sockopt.SO_BINDTOIFINDEX, device)
        if sock.family == socket.AF_INET6:
            only = sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            second.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
    except OSError:
        second.close()
        raise
    return second


def _let_migrate(sock: socket.socket) -> None:
    """Have the kernel give a listener's queue to another of its group when it closes."""
    code = ebpf.INSTRUCTION.pack(ebpf.ALU64 | ebpf.MOV, 0, 0, _SK_PASS)
    code += ebpf.INSTRUCTION.pack(ebpf.JMP | ebpf.EXIT, 0, 0, 0)
    kind = libbpf.PROG_SK_REUSEPORT
    fd = libbpf.prog_load(kind, "udpgrm_migrate", code, libbpf.SK_REUSEPORT_SELECT_OR_MIGRATE)
    try:
        sock.setsockopt(socket.SOL_SOCKET, sockopt.SO_ATTACH_REUSEPORT_EBPF, fd)
    finally:
        os.close(fd)


def _waiting(sock: socket.socket) -> int:
    """Return how many packets a socket has got."""
    sock.setblocking(False)
    count = 0
    while True:
        try:
            sock.recv(1)
        except BlockingIOError:
            return count
        count += 1
