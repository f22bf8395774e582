# SPDX-License-Identifier: Apache-2.0
"""Sockets handed on to tubular, which gives them the traffic of whole networks.

A labelled group's generation is registered when it becomes the working one:
`LABEL#` and the sockets (SCM_RIGHTS) over a SEQPACKET connection, answered by
`OK`. Waits for a second at most, in which no registration is served.
"""

from __future__ import annotations

import os
import socket
import time
from typing import Optional

from udpgrm import log

_TIMEOUT_S = 1.0
_HOLD_S = 10.0
#: SCM_MAX_FD of the kernel: descriptors in one message.
_AT_ONCE = 253


class Tubular:
    """Duplicates of new sockets, held until their generation becomes the working one."""

    def __init__(self, path: str) -> None:
        """Talk to the daemon that listens on this path; connects when there is need."""
        self._path = path
        self._held: dict[tuple[int, int], list[tuple[float, int]]] = {}

    def hold(self, group: int, slot: int, fd: int) -> None:
        """Keep a duplicate of a socket that has come to a generation."""
        self._held.setdefault((group, slot), []).append((time.monotonic(), os.dup(fd)))

    @property
    def due(self) -> Optional[float]:
        """When (monotonic seconds) `expire` has something to close."""
        since = [since for held in self._held.values() for since, _ in held]
        return min(since) + _HOLD_S if since else None

    def expire(self) -> None:
        """Close what nobody has asked for in 10 s."""
        oldest = time.monotonic() - _HOLD_S
        for key, held in list(self._held.items()):
            for item in held[:]:
                if item[0] <= oldest:
                    os.close(item[1])
                    held.remove(item)
            if not held:
                del self._held[key]

    def register(self, group: int, slot: int, label: str) -> bool:
        """Hand on a generation's new sockets; False when that failed."""
        fds = [fd for _, fd in self._held.pop((group, slot), [])]
        if not fds:
            log.event("No new sockets to register to tubular")
            return True
        try:
            for start in range(0, len(fds), _AT_ONCE):
                self._send(label, fds[start : start + _AT_ONCE])
        except OSError as error:
            log.event(f"Tubular register failed: {error.strerror or error}")
            return False
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def _send(self, label: str, fds: list[int]) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
            channel.settimeout(_TIMEOUT_S)
            channel.connect(self._path)
            socket.send_fds(channel, [f"{label}#".encode()], fds)
            answer = channel.recv(4096)
        if answer.rstrip(b"\0\n") != b"OK":
            raise OSError(f"answered {answer[:100].decode(errors='replace')!r}")
