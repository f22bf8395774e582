# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Sockets duplicated from another process by pidfd_getfd(2), with a limit on the wait.

The call waits while the process is in execve(2), and that waits for the servers of the files it
closes: FUSE, NFS. Only SIGKILL ends the wait, so a thread makes the calls, and is abandoned
if the kernel blocks it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import queue
import socket
import threading
import time
from collections.abc import Container, Sequence
from pathlib import Path
from typing import NamedTuple, Optional

from udpgrm.kernel import sockopt

_SYS_PIDFD_GETFD = 438  # the same on every architecture
_SYS_PIDFD_OPEN = 434
_PIDFD_THREAD = os.O_EXCL
#: Bytes of /proc/PID/status that hold the lines up to State.
_HEAD_BYTES = 512
#: Seconds between two checks of a thread that has not answered, and how many checks in a row find
#: it blocked in the kernel before it is abandoned. A thread without a processor is waited for.
_LOOK_EVERY_S = 0.01
_LOOKS = 5
#: The most processes that may hang at a time.
_MOST_STUCK = 64
_CAP_SYS_PTRACE = 19
_YAMA = Path("/proc/sys/kernel/yama/ptrace_scope")
_YAMA_NO_ATTACH = 3

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class Unreachable(OSError):
    """Raised when the descriptors of a process cannot be duplicated; the message says why.

    errno: EPERM (a right is missing), EAGAIN (it hangs in execve(2)), EINVAL (its main thread has
    ended, and the kernel is too old for that), EACCES (a program of another refuses getsockopt(2)).
    """


class Taken(NamedTuple):
    """A socket of another process: its descriptor there, its SO_COOKIE, the duplicate."""

    number: int
    cookie: int
    fd: int


def pidfd_open(pid: int, flags: int = 0) -> int:
    """Return a pidfd; -1: there is no such process. Raises OSError without a free descriptor."""
    # os.pidfd_open is absent where Python was built on an older libc
    fd = int(_libc.syscall(_SYS_PIDFD_OPEN, pid, flags))
    if fd < 0 and ctypes.get_errno() in (errno.EMFILE, errno.ENFILE):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return fd


def state(pid: int, thread: Optional[int] = None) -> str:
    """Return the letter that proc(5) has for the state of a process or thread; "" if gone.

    Not from its `stat`, or from any link in its directory, which wait for execve(2) as well.
    """
    where = f"/proc/{pid}/status" if thread is None else f"/proc/{pid}/task/{thread}/status"
    with contextlib.suppress(OSError), open(where, "rb", buffering=0) as file:
        # Name, of 64 bytes at most, and Umask come before it
        return file.read(_HEAD_BYTES).partition(b"\nState:\t")[2][:1].decode()
    return ""


def stuck() -> set[int]:
    """Return the processes whose descriptors are waited for at this moment."""
    return set(_stuck)


def have_come_back(seconds: float) -> bool:
    """Wait until no process is waited for, so long at most; return whether one was and is not."""
    waited_for, deadline = stuck(), time.monotonic() + seconds
    while waited_for & _stuck and time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY_S)
    return bool(waited_for - _stuck)


def lacks_right(pid: object = "self") -> str:
    """Return why a process may not duplicate others' descriptors at all; "": it may."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        if not _has_ptrace(pid):
            return (
                "EPERM: CAP_SYS_PTRACE is missing (CapabilityBoundingSet= of the unit, or the "
                "container's capabilities)"
            )
    with contextlib.suppress(OSError, ValueError):
        if int(_YAMA.read_text()) >= _YAMA_NO_ATTACH:
            return f"EPERM: Yama forbids it to all, CAP_SYS_PTRACE or not ({_YAMA} is 3)"
    return ""


def is_worth_reporting(error: Unreachable) -> bool:
    """Return whether an unreachable process is to be reported.

    A single process may be hidden, as by a security module, on a healthy host.
    """
    return error.errno != errno.EPERM or bool(lacks_right())


def _has_ptrace(pid: object) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    effective = next(line for line in lines if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> _CAP_SYS_PTRACE & 1)


class Process:
    """A process whose sockets are duplicated. Use as a context manager."""

    def __init__(self, pid: int) -> None:
        """Open a process. Raises Unreachable, ProcessLookupError, OSError without a descriptor."""
        if pid in _stuck:
            raise Unreachable(errno.EAGAIN, f"process {pid} hangs in execve(2)")
        if len(_stuck) >= _MOST_STUCK and not _is_roots(pid):
            raise Unreachable(errno.EAGAIN, f"{len(_stuck)} processes hang in execve(2)")
        self.pid = pid
        self.thread = pid
        self.pidfd = pidfd_open(pid)
        if self.pidfd >= 0 and state(pid) == "Z":
            self._open_thread()
        if self.pidfd < 0:
            raise ProcessLookupError(errno.ESRCH, f"process {pid} has ended")
        self.directory = f"/proc/{pid}/task/{self.thread}/fd"

    def _open_thread(self) -> None:
        """Open a living thread instead of the main thread, which has ended."""
        os.close(self.pidfd)
        self.pidfd = -1
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for name in os.listdir(f"/proc/{self.pid}/task"):
                thread = int(name)
                if state(self.pid, thread) in ("Z", "X", ""):
                    continue
                self.pidfd = pidfd_open(thread, _PIDFD_THREAD)
                if self.pidfd >= 0:
                    self.thread = thread
                    return
                if ctypes.get_errno() == errno.EINVAL:
                    raise Unreachable(
                        errno.EINVAL,
                        f"the main thread of process {self.pid} has ended, and this kernel cannot "
                        "duplicate descriptors of other threads (Linux 6.9 and later can)",
                    )

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def numbers(self) -> list[int]:
        """Return the process's descriptors; none if it has ended. Raises Unreachable."""
        gone = contextlib.suppress(FileNotFoundError, ProcessLookupError)
        try:
            with gone, os.scandir(self.directory) as entries:
                return [int(entry.name) for entry in entries]
        except PermissionError as error:
            raise self._denied() from error
        return []

    def _denied(self) -> Unreachable:
        why = lacks_right() or "EPERM: a security module or its user namespace forbids it"
        return Unreachable(errno.EPERM, f"cannot duplicate sockets of process {self.pid}: {why}")

    def take(self, numbers: Sequence[int], cookies: Optional[Container[int]]) -> list[Taken]:
        """Duplicate the process's sockets with these cookies among some descriptors; None: any.

        Raises Unreachable, and OSError without a free descriptor.
        """
        worker = _idle.pop() if _idle else _Worker()
        reply = worker.ask(self, numbers, cookies)
        _idle.append(worker)
        if reply.error in (errno.EMFILE, errno.ENFILE):
            raise OSError(reply.error, os.strerror(reply.error))
        if reply.error == errno.EPERM:
            raise self._denied()
        if reply.error == errno.EACCES:
            raise Unreachable(
                errno.EACCES,
                f"a BPF program on the cgroup of process {self.pid} refuses getsockopt(2) on its "
                "sockets (bpftool cgroup tree)",
            )
        return reply.taken


class _Reply(NamedTuple):
    taken: list[Taken]
    error: int


class _Worker(threading.Thread):
    """Makes the calls that may block for ever. Serves one process at a time."""

    def __init__(self) -> None:
        super().__init__(daemon=True, name="udpgrm-getfd")
        self._questions: queue.SimpleQueue[
            tuple[Process, int, Sequence[int], Optional[Container[int]]]
        ] = queue.SimpleQueue()
        self._replies: queue.SimpleQueue[_Reply] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._abandoned = False
        try:
            self.start()
        except RuntimeError as error:  # the limit of processes is reached
            raise OSError(errno.EAGAIN, f"cannot start a thread: {error}") from error

    def ask(
        self, process: Process, numbers: Sequence[int], cookies: Optional[Container[int]]
    ) -> _Reply:
        """Duplicate sockets of a process. After Unreachable, the worker must not be used again."""
        self._questions.put((process, process.pidfd, numbers, cookies))
        blocked = 0
        while True:
            with contextlib.suppress(queue.Empty):
                return self._replies.get(timeout=_LOOK_EVERY_S)
            if not self.is_alive():
                raise OSError(errno.EAGAIN, "a thread has failed")
            blocked = blocked + 1 if state(os.getpid(), self.native_id) == "D" else 0
            if blocked < _LOOKS:
                continue
            with self._lock:
                if not self._replies.empty():
                    continue
                self._abandoned = True
                _stuck.add(process.pid)
                process.pidfd = -1  # the worker's from now on
            raise Unreachable(errno.EAGAIN, f"process {process.pid} hangs in execve(2)")

    def run(self) -> None:
        """Serve requests until one has taken too long."""
        while True:
            process, pidfd, numbers, cookies = self._questions.get()
            reply = _take(process.directory, pidfd, numbers, cookies)
            with self._lock:
                if not self._abandoned:
                    self._replies.put(reply)
                    continue
            for taken in reply.taken:
                os.close(taken.fd)
            os.close(pidfd)
            _stuck.discard(process.pid)
            return


#: Workers without a request, and processes that a worker waits for.
_idle: list[_Worker] = []
_stuck: set[int] = set()


def prepare() -> None:
    """Start a worker now: the limit of processes may be reached later."""
    if not _idle:
        _idle.append(_Worker())


def _take(
    directory: str, pidfd: int, numbers: Sequence[int], cookies: Optional[Container[int]]
) -> _Reply:
    taken: list[Taken] = []
    refused = 0
    for number in numbers:
        fd, error = _duplicate(directory, pidfd, number)
        if error in (errno.EMFILE, errno.ENFILE, errno.EPERM):
            for item in taken:
                os.close(item.fd)
            return _Reply([], error)
        if fd < 0:
            continue
        cookie, error = _cookie(fd)
        if error == errno.ENOTSOCK:
            _give_back(fd)
        elif error:
            refused = errno.EACCES
            os.close(fd)
        elif cookies is None or cookie in cookies:
            taken.append(Taken(number, cookie, fd))
        else:
            os.close(fd)
    return _Reply(taken, 0 if taken else refused)


def _duplicate(directory: str, pidfd: int, number: int) -> tuple[int, int]:
    """Return (duplicate, 0) of a descriptor that is a socket, else (-1, errno)."""
    try:
        if not os.readlink(f"{directory}/{number}").startswith("socket:"):  # noqa: PTH115
            return -1, errno.ENOTSOCK
    except PermissionError:
        return -1, errno.EPERM
    except OSError:
        return -1, errno.ESRCH
    fd = int(_libc.syscall(_SYS_PIDFD_GETFD, pidfd, number, 0))
    return fd, 0 if fd >= 0 else ctypes.get_errno()


def _cookie(fd: int) -> tuple[int, int]:
    """Return (SO_COOKIE, 0) of a descriptor, or (0, errno): it is no socket, or that is refused."""
    value = ctypes.c_uint64()
    size = ctypes.c_uint32(8)
    failed = _libc.getsockopt(
        fd, socket.SOL_SOCKET, sockopt.SO_COOKIE, ctypes.byref(value), ctypes.byref(size)
    )
    return (0, ctypes.get_errno()) if failed else (value.value, 0)


def _give_back(fd: int) -> None:
    """Close a duplicate that is no socket, as the descriptor was replaced meanwhile.

    close(2) of a file waits for the server of its file system, which only a thread of its own
    may do.
    """
    try:
        threading.Thread(target=os.close, args=(fd,), daemon=True).start()
    except RuntimeError:  # the limit of processes is reached
        os.close(fd)


def _is_roots(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return os.stat(f"/proc/{pid}").st_uid == 0
    return False
