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
    return int(_libc.syscall(_SYS_PIDFD_OPEN, pid, 0))


def _cookie(fd: int) -> Optional[int]:
    """SO_COOKIE of a descriptor that may be no socket at all."""
    value = ctypes.c_uint64()
    size = ctypes.c_uint32(8)
    failed = _libc.getsockopt(
        fd, socket.SOL_SOCKET, SO_COOKIE, ctypes.byref(value), ctypes.byref(size)
    )
    return None if failed else value.value


def _take(pid: int, pidfd: int, number: int, cookie: int) -> Optional[int]:
    """Our own descriptor of the process's, when it is the socket meant."""
    if not _is_socket(pid, number):
        return None
    fd = int(_libc.syscall(_SYS_PIDFD_GETFD, pidfd, number, 0))
    if fd < 0:
        return None
    found = _cookie(fd)
    if found == cookie:
        return fd
    _give_back(fd, found)
    return None


def _give_back(fd: int, cookie: Optional[int]) -> None:
    """Close a duplicate that was not meant.

    One that is no socket was put there since it was looked at; close(2) of a file waits for
    whoever serves its file system, which nobody but a thread of its own may do.
    """
    if cookie is None:
        threading.Thread(target=os.close, args=(fd,), daemon=True).start()
    else:
        os.close(fd)


def _descriptors(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            yield int(name)


def socket_of(pid: int, cookie: int, hint: int) -> Optional[int]:
    """A duplicate of the process's socket with this cookie, or None.

    The hint is tried first; a wrong one costs a look at every descriptor.
    """
    pidfd = _pidfd_open(pid)
    if pidfd < 0:
        return None
    try:
        found = _take(pid, pidfd, hint, cookie)
        if found is not None:
            return found
        for number in _descriptors(pid):
            found = _take(pid, pidfd, number, cookie)
            if found is not None:
                return found
        return None
    finally:
        os.close(pidfd)


def find_sockets(cookies: set[int]) -> dict[int, tuple[int, int]]:
    """(pid, duplicate) of each of these sockets that any process has, by cookie."""
    found: dict[int, tuple[int, int]] = {}
    if not cookies:
        return found
    for pid in _all_pids():
        for cookie, fd in sockets_of(pid):
            if cookie in cookies and cookie not in found:
                found[cookie] = (pid, fd)
            else:
                os.close(fd)
    return found


def sockets_of(pid: int) -> Iterator[tuple[int, int]]:
    """(SO_COOKIE, duplicate) of every socket of a process; the caller closes them."""
    pidfd = _pidfd_open(pid)
    if pidfd < 0:
        return
    try:
        for number in _descriptors(pid):
            if not _is_socket(pid, number):
                continue
            fd = int(_libc.syscall(_SYS_PIDFD_GETFD, pidfd, number, 0))
            if fd < 0:
                continue
            cookie = _cookie(fd)
            if cookie is None:
                _give_back(fd, cookie)
            else:
                yield cookie, fd
    finally:
        os.close(pidfd)


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


def _all_pids() -> list[int]:
    """Newest first."""
    return sorted((int(name) for name in os.listdir("/proc") if name.isdigit()), reverse=True)


def find_socket(cookie: int) -> Optional[tuple[int, int]]:
    """(pid, duplicate) of the socket among all processes, newest first."""
    for pid in _all_pids():
        found = socket_of(pid, cookie, -1)
        if found is not None:
            return pid, found
    return None


def watch(pid: int) -> Optional[int]:
    """A pidfd, readable once the process has ended; None: it has."""
    pidfd = _pidfd_open(pid)
    return None if pidfd < 0 else pidfd
