# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Sockets that are not where their messages say are looked for in all processes."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator
from typing import Optional

from udpgrm import abi
from udpgrm.daemon.deferred import key_of
from udpgrm.kernel import pidfd

#: A process, and what one of its descriptors is: SO_COOKIE and a duplicate, or no socket.
_Seen = tuple[int, Optional[tuple[int, int]]]
_Wanted = dict[int, dict[bytes, abi.Message]]
#: Seconds without a break.
_AT_A_TIME = 0.02


class Search:
    """One look at every descriptor for all sockets that are missing.

    In pieces, each with a rest as long as it took, so that others are served in between:
    applications that send it after closed sockets get half a processor at most. Where root's are
    among those missed there is no rest.
    """

    def __init__(self) -> None:
        """Nothing is missing."""
        #: Messages by SO_COOKIE and key: what the next look is for, and the present one
        self._next: _Wanted = {}
        self._sought: _Wanted = {}
        self._descriptors: Optional[Generator[_Seen, None, None]] = None
        self._rest_until = 0.0

    def add(self, message: abi.Message) -> None:
        """Look for a message's socket; when it is looked for already, once more after that."""
        self._next.setdefault(message.cookie, {})[key_of(message)] = message

    def has(self, message: abi.Message) -> bool:
        """Whether a message's like waits here."""
        key = key_of(message)
        return any(key in wanted.get(message.cookie, {}) for wanted in (self._sought, self._next))

    def drop(self, cookie: int) -> list[abi.Message]:
        """Look for a socket no more. Returns the messages that waited for it."""
        both = (self._sought.pop(cookie, {}), self._next.pop(cookie, {}))
        return [message for wanted in both for message in wanted.values()]

    @property
    def due(self) -> Optional[float]:
        """When (monotonic seconds) `go_on` has something to do; None: it has not."""
        if not self._next and not self._sought and self._descriptors is None:
            return None
        waiting = (*_messages(self._sought), *_messages(self._next))
        return 0.0 if any(message.uid == 0 for message in waiting) else self._rest_until

    def go_on(self) -> Iterator[tuple[abi.Message, Optional[tuple[int, int]]]]:
        """Messages with (pid, duplicate) of their socket, or None: no process has it.

        The caller closes the duplicates.
        """
        due, began = self.due, time.monotonic()
        if due is None or began < due:
            return
        if self._descriptors is None:
            self._sought, self._next = self._next, {}
            self._descriptors = _descriptors(list(_messages(self._sought)))
        for pid, seen in self._descriptors:
            if seen is not None:
                cookie, fd = seen
                try:
                    for message in self._sought.pop(cookie, {}).values():
                        yield message, (pid, os.dup(fd))
                finally:
                    os.close(fd)
            now = time.monotonic()
            if not self._sought:
                break
            if now - began > _AT_A_TIME:
                self._rest_until = now + (now - began)
                return
        self._descriptors.close()
        self._descriptors = None
        lost, self._sought = self._sought, {}
        for message in _messages(lost):
            yield message, None


def _messages(wanted: _Wanted) -> Iterator[abi.Message]:
    return (message for messages in wanted.values() for message in messages.values())


def _descriptors(messages: list[abi.Message]) -> Generator[_Seen, None, None]:
    """Those of the processes that the messages name, then of all others."""
    named = [message.ns_pid for message in messages if message.ns_pid]
    for pid in dict.fromkeys((*named, *pidfd.all_pids())):
        for seen in pidfd.descriptors_of(pid):
            yield pid, seen
