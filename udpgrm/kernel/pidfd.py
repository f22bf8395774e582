# SPDX-License-Identifier: Apache-2.0
"""Sockets of other processes, duplicated."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator, Sequence
from typing import Optional

from udpgrm.kernel.descriptors import (
    Process,
    Taken,
    pidfd_open,
)

_FIRST_PID_NAMESPACE = 0xEFFFFFFC  # PROC_PID_INIT_INO


def socket_at(pid: int, number: int, cookie: int) -> Optional[int]:
    """Return a duplicate of a process's descriptor, if it is the socket with this cookie.

    Raises Unreachable, and OSError without a free descriptor.
    """
    with contextlib.suppress(ProcessLookupError), Process(pid) as process:
        for taken in process.take([number], {cookie}):
            return taken.fd
    return None


def sockets_of(pid: int) -> Iterator[tuple[int, int]]:
    """Yield (SO_COOKIE, duplicate) of every socket of a process; the caller closes them.

    Raises Unreachable, and OSError without a free descriptor.
    """
    yield from ((taken.cookie, taken.fd) for taken in numbered_sockets_of(pid))


def numbered_sockets_of(pid: int, numbers: Optional[Sequence[int]] = None) -> Iterator[Taken]:
    """Yield sockets of a process, with their descriptors there, as `sockets_of`.

    numbers: descriptors to look at, all if None.
    """
    with contextlib.suppress(ProcessLookupError), Process(pid) as process:
        for number in process.numbers() if numbers is None else numbers:
            # one by one: an open duplicate takes packets after its owner has closed the socket
            yield from process.take([number], None)


@contextlib.contextmanager
def borrowed(fd: int) -> Iterator[socket.socket]:
    """Yield the socket of a descriptor, which stays open."""
    sock = socket.socket(fileno=fd)
    try:
        yield sock
    finally:
        sock.detach()


def is_server(sock: socket.socket) -> bool:
    """Return whether a socket serves any peer: an unconnected one of UDP, or TCP's listener."""
    return is_unconnected(sock) and (sock.proto == socket.IPPROTO_UDP or is_listening(sock))


def is_unconnected(sock: socket.socket) -> bool:
    """Return whether a socket of UDP or TCP has no peer; one of TCP may be about to listen."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    if sock.proto not in (socket.IPPROTO_UDP, socket.IPPROTO_TCP):
        return False
    try:
        sock.getpeername()
    except OSError as error:
        return error.errno == errno.ENOTCONN
    return False


def is_listening(sock: socket.socket) -> bool:
    """Return whether a socket accepts connections."""
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) != 0


def sees_all_pids() -> bool:
    """Return whether this is the first pid namespace, in which every process has a pid."""
    return os.stat("/proc/self/ns/pid").st_ino == _FIRST_PID_NAMESPACE


def all_pids() -> list[int]:
    """Return the pids of all processes, newest first."""
    return sorted((int(name) for name in os.listdir("/proc") if name.isdigit()), reverse=True)


def watch(pid: int) -> Optional[int]:
    """Return a pidfd, readable once the process has ended; None: it has, or none is free."""
    with contextlib.suppress(OSError):
        pidfd = pidfd_open(pid)
        return None if pidfd < 0 else pidfd
    return None
