# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Actions inside of other network namespaces, in threads that may hang."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, Optional, TypeVar

from udpgrm.kernel.descriptors import state
from udpgrm.kernel.netns import own_cookie

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_Result = TypeVar("_Result")
#: Seconds between two checks of the thread, and how many in a row find it blocked in the kernel.
_LOOK_EVERY_S = 0.01
_LOOKS = 5


def run_in(cookie: int, action: Callable[[], _Result]) -> Optional[_Result]:
    """Run an action inside a network namespace; None: no process or name leads to it.

    In a thread of its own: the caller's namespace does not change. A process that hangs in
    execve(2) blocks the access to its namespace, so a blocked thread is abandoned, and the next
    one skips that process.
    """
    while len(_blocking) < _MOST_BLOCKING:
        attempt = _Attempt(cookie, action)
        attempt.start()
        if not attempt.await_end():
            continue
        if attempt.failed:
            raise attempt.failed[0]
        return attempt.found[0] if attempt.found else None
    return None


#: Processes at which a thread is blocked at this moment, and the most there may be.
_blocking: set[int] = set()
_MOST_BLOCKING = 64


class _Attempt(threading.Thread, Generic[_Result]):
    """A search for a namespace, and the action in it."""

    def __init__(self, cookie: int, action: Callable[[], _Result]) -> None:
        super().__init__(daemon=True, name="udpgrm-netns")
        self.found: list[_Result] = []
        self.failed: list[BaseException] = []
        self._cookie = cookie
        self._action = action
        self._lock = threading.Lock()
        self._looking_at = 0  # a process; 0: none
        self._abandoned = False

    def await_end(self) -> bool:
        """Wait for the end; abandon it if it is blocked at a process, and return False."""
        blocked = 0
        while True:
            self.join(_LOOK_EVERY_S)
            if not self.is_alive():
                return True
            blocked = blocked + 1 if state(os.getpid(), self.native_id) == "D" else 0
            if blocked < _LOOKS:
                continue
            with self._lock:
                if self._looking_at:
                    _blocking.add(self._looking_at)
                    self._abandoned = True
                    return False

    def run(self) -> None:
        """Search the namespaces, and run the action."""
        try:
            if any(self._enter(path) for path in self._candidates()):
                self.found.append(self._action())
        except BaseException as error:
            self.failed.append(error)

    def _enter(self, path: Path) -> bool:
        with contextlib.suppress(OSError):
            fd = self._open(path)
            if fd is None:
                return False
            try:
                return bool(_libc.setns(fd, _CLONE_NEWNET) == 0) and own_cookie() == self._cookie
            finally:
                os.close(fd)
        return False

    def _candidates(self) -> Iterator[Path]:
        """Yield a path of each namespace, of processes and by name (ip netns)."""
        seen = set()
        for name in os.listdir("/proc"):
            if not name.isdigit() or int(name) in _blocking:
                continue
            path = Path(f"/proc/{name}/ns/net")
            identity = self._guarded(int(name), functools.partial(_identity, path))
            if self._abandoned:
                return
            if identity is not None and identity not in seen:
                seen.add(identity)
                yield path
        with contextlib.suppress(OSError):
            yield from Path("/run/netns").iterdir()

    def _open(self, path: Path) -> Optional[int]:
        name = path.parts[2]
        if not name.isdigit():  # in /run/netns, not of a process
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        fd = self._guarded(int(name), lambda: os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        if self._abandoned and fd is not None:
            os.close(fd)
            return None
        return fd

    def _guarded(self, pid: int, look: Callable[[], int]) -> Optional[int]:
        """Read of a process, which may block; None: it has ended, or the caller waits no longer."""
        with self._lock:
            self._looking_at = pid
        result = None
        with contextlib.suppress(OSError):  # it has ended
            result = look()
        with self._lock:
            self._looking_at = 0
            if self._abandoned:
                _blocking.discard(pid)
        return result


def _identity(path: Path) -> int:
    return os.stat(path).st_ino
