# SPDX-License-Identifier: Apache-2.0
"""Sockets of other processes: pidfd_open(2), pidfd_getfd(2), SO_COOKIE."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import threading
from collections.abc import Iterator
from typing import Optional

SO_COOKIE = 57
_SYS_PIDFD_GETFD = 438  # the same on every architecture
_SYS_PIDFD_OPEN = 434

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _pidfd_open(pid: int) -> int:
    # os.pidfd_open is absent where Python was built on an older libc
    return _unless_exhausted(int(_libc.syscall(_SYS_PIDFD_OPEN, pid, 0)))


def _unless_exhausted(fd: int) -> int:
    """A descriptor, or -1. Raises OSError when that says nothing of what it was asked for."""
    if fd < 0 and ctypes.get_errno() in (errno.EMFILE, errno.ENFILE):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return fd


def _cookie(fd: int) -> Optional[int]:
    """SO_COOKIE of a descriptor that may be no socket at all."""
    value = ctypes.c_uint64()
    size = ctypes.c_uint32(8)
    failed = _libc.getsockopt(
        fd, socket.SOL_SOCKET, SO_COOKIE, ctypes.byref(value), ctypes.byref(size)
    )
    return None if failed else value.value


def _give_back(fd: int) -> None:
    """Close what was put in a socket's place just now.

    close(2) of a file waits for whoever serves its file system, which nobody but a thread of its
    own may do.
    """
    threading.Thread(target=os.close, args=(fd,), daemon=True).start()


def socket_at(pid: int, number: int, cookie: int) -> Optional[int]:
    """A duplicate of the process's descriptor, when it is the socket with this cookie."""
    pidfd = _pidfd_open(pid)
    if pidfd < 0:
        return None
    try:
        seen = _duplicate(pid, pidfd, number)
    finally:
        os.close(pidfd)
    if seen is None:
        return None
    if seen[0] == cookie:
        return seen[1]
    os.close(seen[1])
    return None


def _duplicate(pid: int, pidfd: int, number: int) -> Optional[tuple[int, int]]:
    """(SO_COOKIE, duplicate) of a process's descriptor; None: it is no socket."""
    if not _is_socket(pid, number):
        return None
    fd = _unless_exhausted(int(_libc.syscall(_SYS_PIDFD_GETFD, pidfd, number, 0)))
    if fd < 0:
        return None
    cookie = _cookie(fd)
    if cookie is None:
        _give_back(fd)
        return None
    return cookie, fd


def find_sockets(cookies: set[int]) -> dict[int, tuple[int, int]]:
    """(pid, duplicate) of each of these sockets that any process has, by cookie."""
    found: dict[int, tuple[int, int]] = {}
    if not cookies:
        return found
    for pid in all_pids():
        for cookie, fd in sockets_of(pid):
            if cookie in cookies and cookie not in found:
                found[cookie] = (pid, fd)
            else:
                os.close(fd)
    return found


def sockets_of(pid: int) -> Iterator[tuple[int, int]]:
    """(SO_COOKIE, duplicate) of every socket of a process; the caller closes them."""
    yield from (seen for seen in descriptors_of(pid) if seen is not None)


def descriptors_of(pid: int) -> Iterator[Optional[tuple[int, int]]]:
    """The same, with None for each descriptor that is no socket: for who cannot wait."""
    pidfd = _pidfd_open(pid)
    if pidfd < 0:
        return
    try:
        for number in _numbers(pid):
            yield _duplicate(pid, pidfd, number)
    finally:
        os.close(pidfd)


def _numbers(pid: int) -> Iterator[int]:
    gone = contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError)
    with gone, os.scandir(f"/proc/{pid}/fd") as entries:
        for entry in entries:
            yield int(entry.name)


def is_udp_server(sock: socket.socket) -> bool:
    """Whether it is of UDP and takes packets of anybody: not connected to a peer."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.proto != socket.IPPROTO_UDP:
        return False
    try:
        sock.getpeername()
    except OSError as error:
        return error.errno == errno.ENOTCONN
    return False


def _is_socket(pid: int, number: int) -> bool:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/fd/{number}").startswith("socket:")  # noqa: PTH115
    return False


def all_pids() -> list[int]:
    """Those of all processes, newest first."""
    return sorted((int(name) for name in os.listdir("/proc") if name.isdigit()), reverse=True)


def watch(pid: int) -> Optional[int]:
    """A pidfd, readable once the process has ended; None: it has, or no descriptor is left."""
    with contextlib.suppress(OSError):
        pidfd = _pidfd_open(pid)
        return None if pidfd < 0 else pidfd
    return None
