# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Search in all processes for sockets that are not where their messages say."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Generator, Iterator
from typing import Optional

from udpgrm import abi
from udpgrm.daemon.deferred import key_of
from udpgrm.kernel import pidfd
from udpgrm.kernel.descriptors import Unreachable, is_worth_reporting, stuck

#: A process, and one of its sockets that is missing: SO_COOKIE and a duplicate; None: a turn.
_Seen = tuple[int, Optional[tuple[int, int]]]
_Wanted = dict[int, dict[bytes, abi.Message]]
#: Seconds without a break.
_AT_A_TIME = 0.02
_UNTIL_THERE_MAY_BE_ONE = 1.0
#: Until the next scan for a socket that no process has: at first, and at most.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 60.0


class Search:
    """A scan of all processes' descriptors for all sockets that are missing.

    In pieces, each with a rest as long as it took, so that messages are served in between: however
    many sockets servers close at once, it takes half a processor at most. If sockets of root
    are missing, there is no rest.
    """

    def __init__(self) -> None:
        """Start without a missing socket."""
        #: Messages by SO_COOKIE and key: of the next scan, and of the present one
        self._next: _Wanted = {}
        self._sought: _Wanted = {}
        #: Messages of processes that hang in execve(2)
        self._held: _Wanted = {}
        self._held_until = 0.0
        #: Messages of living sockets that no process has, by SO_COOKIE; when (monotonic seconds)
        #: to search for each again, and how long to wait then
        self._absent: _Wanted = {}
        self._again: dict[int, float] = {}
        self._pause: dict[int, float] = {}
        #: Processes that the present scan could not reach, and why
        self._unreachable: dict[int, Unreachable] = {}
        self._descriptors: Optional[Generator[_Seen, None, None]] = None
        self._rest_until = self._not_before = 0.0

    def add(self, message: abi.Message) -> None:
        """Search for a message's socket; if a scan for it is under way, once more after that."""
        self._next.setdefault(message.cookie, {})[key_of(message)] = message

    def has(self, message: abi.Message) -> bool:
        """Return whether a message of the same key waits here."""
        key = key_of(message)
        return any(key in wanted.get(message.cookie, {}) for wanted in self._everything)

    def drop(self, cookie: int) -> list[abi.Message]:
        """Stop the search for a socket. Returns the messages that waited for it."""
        self._again.pop(cookie, None)
        self._pause.pop(cookie, None)
        return [
            message for wanted in self._everything for message in wanted.pop(cookie, {}).values()
        ]

    @property
    def _everything(self) -> tuple[_Wanted, ...]:
        return self._sought, self._next, self._held, self._absent

    def retry(self, message: abi.Message) -> bool:
        """Search again, later, for a living socket that no process has.

        Returns whether it is the first time.
        """
        cookie = message.cookie
        is_first = cookie not in self._pause
        if cookie not in self._again:
            pause = self._pause.get(cookie, _FIRST_PAUSE)
            self._again[cookie] = time.monotonic() + pause
            self._pause[cookie] = min(2 * pause, _LONGEST_PAUSE)
        self._absent.setdefault(cookie, {})[key_of(message)] = message
        return is_first

    def end_pauses(self, cookie: int) -> None:
        """Begin with a short pause again: the socket was found, or is closed."""
        self._pause.pop(cookie, None)

    @property
    def why_incomplete(self) -> str:
        """Return why a socket may exist that the last scan has not found; empty: it does not."""
        return "; ".join(sorted({str(error.strerror) for error in self._unreachable.values()}))

    @property
    def due(self) -> Optional[float]:
        """Return when (monotonic seconds) `resume` has something to do; None: it has not."""
        if not self._next and not self._sought and self._descriptors is None:
            held = [self._held_until] if self._held else []
            return min([*held, *self._again.values()], default=None)
        hurry = _is_roots(self._sought) or _is_roots(self._next)
        return self._not_before if hurry else max(self._not_before, self._rest_until)

    def resume(self) -> Iterator[tuple[abi.Message, Optional[tuple[int, int]]]]:
        """Yield messages with (pid, duplicate) of their socket, or None: no process has it.

        The duplicate is open until the next is asked for. Raises OSError if there is no
        descriptor for it: the scan begins again, later.
        """
        due, began = self.due, time.monotonic()
        if due is None or began < due:
            return
        self._release(began)
        if not self._next and not self._sought and self._descriptors is None:
            return
        if self._descriptors is None or (_is_roots(self._next) and not _is_roots(self._sought)):
            self._restart()
        assert self._descriptors is not None
        try:
            for pid, seen in self._descriptors:
                if seen is not None:
                    cookie, fd = seen
                    try:
                        for message in self._sought.pop(cookie, {}).values():
                            yield message, (pid, fd)
                    finally:
                        os.close(fd)
                now = time.monotonic()
                if not self._sought:
                    break
                if now - began > _AT_A_TIME:
                    self._rest_until = now + (now - began)
                    return
        except OSError:
            self._not_before = time.monotonic() + _UNTIL_THERE_MAY_BE_ONE
            self._restart()
            raise
        self._descriptors.close()
        self._descriptors = None
        lost, self._sought = self._sought, {}
        for message in _messages(lost):
            error = self._unreachable.get(message.ns_pid)
            if error is not None and error.errno == errno.EAGAIN:
                self._held.setdefault(message.cookie, {})[key_of(message)] = message
                self._held_until = time.monotonic() + _UNTIL_THERE_MAY_BE_ONE
            else:
                yield message, None

    def _release(self, now: float) -> None:
        """Search for held-back messages' sockets, once their processes do not hang any longer.

        And for those of absent sockets whose time has come.
        """
        for cookie in [cookie for cookie, due in self._again.items() if now >= due]:
            del self._again[cookie]
            for message in self._absent.pop(cookie).values():
                self.add(message)
        if not self._held or now < self._held_until:
            return
        held, self._held = self._held, {}
        for message in _messages(held):
            if message.ns_pid in stuck():
                self._held.setdefault(message.cookie, {})[key_of(message)] = message
            else:
                self.add(message)
        self._held_until = now + _UNTIL_THERE_MAY_BE_ONE

    def _restart(self) -> None:
        """Start a scan for all sockets that are missing by now."""
        if self._descriptors is not None:
            self._descriptors.close()
        for cookie, messages in self._next.items():
            self._sought.setdefault(cookie, {}).update(messages)
        self._next = {}
        self._unreachable = {}
        self._descriptors = self._scan(list(_messages(self._sought)))

    def _scan(self, messages: list[abi.Message]) -> Generator[_Seen, None, None]:
        """Yield the sockets of processes that root's messages name, root's, smallest first."""
        named = {message.ns_pid for message in messages if message.uid == 0}
        cookies = {message.cookie for message in messages}

        def order(pid: int) -> tuple[bool, bool, int]:
            try:
                about = os.stat(f"/proc/{pid}/fd")
            except OSError:
                return True, True, 0
            return pid not in named, about.st_uid != 0, about.st_size  # how many, from Linux 6.2 on

        for pid in sorted(pidfd.all_pids(), key=order):
            try:
                for seen in pidfd.descriptors_of(pid, cookies):
                    yield pid, seen
            except Unreachable as error:
                if is_worth_reporting(error):
                    self._unreachable[pid] = error


def _messages(wanted: _Wanted) -> Iterator[abi.Message]:
    return (message for messages in wanted.values() for message in messages.values())


def _is_roots(wanted: _Wanted) -> bool:
    return any(message.uid == 0 for message in _messages(wanted))
