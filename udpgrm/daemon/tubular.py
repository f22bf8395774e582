# SPDX-License-Identifier: Apache-2.0
"""The tubular client: it hands sockets to tubular, which gives them traffic of whole networks.

A labelled group's generation is registered when it becomes the working one:
`LABEL#` and the sockets (SCM_RIGHTS) over a SEQPACKET connection, answered by
`OK`. A thread does that, as tubular may hang: the daemon continues meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import socket
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple, Optional

from udpgrm import log

#: Seconds for the whole exchange of a message.
_TIMEOUT_S = 1.0
_HOLD_S = 10.0
#: Generations that wait for a tubular that does not answer; their sockets take descriptors.
_MAX_WAITING = 64
#: SCM_MAX_FD of the kernel: descriptors in one message.
_AT_ONCE = 253


class _Registration(NamedTuple):
    """The new sockets of a generation, which is the working one of a group's use (epoch)."""

    group_id: int
    epoch: int
    label: str
    fds: list[int]


class _Result(NamedTuple):
    """The result of a registration; error: "" if tubular has the sockets."""

    group_id: int
    epoch: int
    error: str


class Tubular:
    """Duplicates of new sockets, held until their generation becomes the working one."""

    def __init__(self, path: str) -> None:
        """Use the daemon that listens on this path; connect when needed."""
        self._path = path
        self._held: dict[tuple[int, int], list[tuple[float, int]]] = {}
        self._waiting: queue.Queue[_Registration] = queue.Queue(_MAX_WAITING)
        self._results: queue.SimpleQueue[_Result] = queue.SimpleQueue()
        self._readable, self._written = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            threading.Thread(target=self._run, name="udpgrm-tubular", daemon=True).start()
        except RuntimeError as error:  # the limit of processes is reached
            raise OSError(errno.EAGAIN, f"cannot start a thread: {error}") from error

    def fileno(self) -> int:
        """Return the descriptor that is readable when `failed` has something to return."""
        return self._readable

    def hold(self, group_id: int, slot: int, fd: int) -> None:
        """Keep a duplicate of a socket that has joined a generation."""
        self._held.setdefault((group_id, slot), []).append((time.monotonic(), os.dup(fd)))

    @property
    def due(self) -> Optional[float]:
        """Return when (monotonic seconds) `expire` has something to close."""
        since = [since for held in self._held.values() for since, _ in held]
        return min(since) + _HOLD_S if since else None

    def expire(self) -> None:
        """Close duplicates of generations that did not become the working one within 10 s."""
        oldest = time.monotonic() - _HOLD_S
        for key, held in list(self._held.items()):
            for item in held[:]:
                if item[0] <= oldest:
                    os.close(item[1])
                    held.remove(item)
            if not held:
                del self._held[key]

    def register(self, group_id: int, epoch: int, slot: int, label: str) -> bool:
        """Begin to register a generation's new sockets; return False if too many wait already."""
        fds = [fd for _, fd in self._held.pop((group_id, slot), [])]
        if not fds:
            log.event("No new sockets to register to tubular")
            return True
        try:
            self._waiting.put_nowait(_Registration(group_id, epoch, label, fds))
        except queue.Full:
            _close(fds)
            log.event(f"Tubular register failed: {_MAX_WAITING} generations wait for it already")
            return False
        return True

    def failed(self) -> Iterator[tuple[int, int]]:
        """Yield groups, with their epochs, whose registration has failed since (logged)."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._readable, 4096)
        with contextlib.suppress(queue.Empty):
            while True:
                result = self._results.get_nowait()
                if result.error:
                    log.event(f"Tubular register failed: {result.error}")
                    yield result.group_id, result.epoch

    def _run(self) -> None:
        """Register one generation after another, in a thread of its own."""
        while True:
            registration = self._waiting.get()
            error = self._register_sockets(registration)
            self._results.put(_Result(registration.group_id, registration.epoch, error))
            with contextlib.suppress(BlockingIOError):  # it is readable then
                os.write(self._written, b"x")

    def _register_sockets(self, registration: _Registration) -> str:
        """Return the error of a registration, or ""."""
        fds = registration.fds
        try:
            for start in range(0, len(fds), _AT_ONCE):
                self._send(registration.label, fds[start : start + _AT_ONCE])
        except Exception as error:  # the thread serves the next one
            return str(getattr(error, "strerror", None) or error)
        finally:
            _close(fds)
        return ""

    def _send(self, label: str, fds: list[int]) -> None:
        deadline = time.monotonic() + _TIMEOUT_S
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
            channel.settimeout(_TIMEOUT_S)
            channel.connect(self._path)
            channel.settimeout(_remaining(deadline))
            socket.send_fds(channel, [f"{label}#".encode()], fds)
            channel.settimeout(_remaining(deadline))
            answer = channel.recv(4096)
        if answer.rstrip(b"\0\n") != b"OK":
            raise OSError(f"answered {answer[:100].decode(errors='replace')!r}")


def _remaining(deadline: float) -> float:
    """Return the seconds until a time of time.monotonic(). Raises TimeoutError if it is past."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise socket.timeout("timed out")
    return left


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
