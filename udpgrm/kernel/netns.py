# SPDX-License-Identifier: Apache-2.0
"""Network namespaces by cookie: SO_NETNS_COOKIE of socket(7), Linux 5.14."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Optional, TypeVar

_SO_NETNS_COOKIE = 71
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_Result = TypeVar("_Result")


def own_cookie() -> int:
    """Return the cookie of this thread's network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        raw = sock.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
    return int.from_bytes(raw, sys.byteorder)


def _candidates() -> Iterator[Path]:
    """Return a path of each namespace: those of processes, and those with a name (ip netns)."""
    seen = set()
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        path = Path(f"/proc/{name}/ns/net")
        with contextlib.suppress(OSError):  # it has ended
            identity = path.stat().st_ino
            if identity not in seen:
                seen.add(identity)
                yield path
    with contextlib.suppress(OSError):
        yield from Path("/run/netns").iterdir()


def run_in(cookie: int, action: Callable[[], _Result]) -> Optional[_Result]:
    """Run an action inside a network namespace; None: no process or name leads to it.

    In a thread of its own: the caller's namespace stays as it is.
    """
    found: list[_Result] = []
    failed: list[BaseException] = []

    def enter(path: Path) -> bool:
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                return bool(_libc.setns(fd, _CLONE_NEWNET) == 0) and own_cookie() == cookie
            finally:
                os.close(fd)
        return False

    def work() -> None:
        try:
            if any(enter(path) for path in _candidates()):
                found.append(action())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return found[0] if found else None
