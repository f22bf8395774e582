# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Search in all processes for sockets that are not where their messages say."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Collection, Iterator, Sequence
from typing import Callable, Optional

from udpgrm import abi
from udpgrm.daemon.deferred import key_of
from udpgrm.kernel import pidfd
from udpgrm.kernel.descriptors import Unreachable, stuck
from udpgrm.state.holders import Holder

_Wanted = dict[int, dict[bytes, abi.Message]]
#: Seconds without a break, unless the look at the descriptors took longer.
_AT_A_TIME = 0.02
_UNTIL_THERE_MAY_BE_ONE = 1.0
#: Until the next search for a socket that no process has: at first, and at most.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 60.0


class Search:
    """A search in all processes for all sockets that are missing.

    It rests as long as it took, so that messages are served in between: however many sockets
    servers close at once, it takes half a processor at most. If sockets of root are missing, there
    is no rest.
    """

    def __init__(self, find: Callable[[Collection[int]], Sequence[Holder]]) -> None:
        """Start without a missing socket. find: descriptors of sockets, by their SO_COOKIE."""
        self._find = find
        #: Messages by SO_COOKIE and key: that came since the last search, and that are sought
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
        #: Sockets that only processes have whose descriptors cannot be duplicated, and why
        self._unreachable: dict[int, Unreachable] = {}
        self._rest_until = self._not_before = 0.0

    def add(self, message: abi.Message) -> None:
        """Search for a message's socket; if that is under way, once more after that."""
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

    def why_unreachable(self, cookie: int) -> str:
        """Return why a socket cannot be taken that a process has; empty: no process has it."""
        error = self._unreachable.get(cookie)
        return str(error.strerror) if error else ""

    @property
    def due(self) -> Optional[float]:
        """Return when (monotonic seconds) `resume` has something to do; None: it has not."""
        if not self._next and not self._sought:
            held = [self._held_until] if self._held else []
            return min([*held, *self._again.values()], default=None)
        hurry = _is_roots(self._sought) or _is_roots(self._next)
        return self._not_before if hurry else max(self._not_before, self._rest_until)

    def resume(self) -> Iterator[tuple[abi.Message, Optional[tuple[int, int]]]]:
        """Yield messages with (pid, duplicate) of their socket, or None: no process has it.

        The duplicate is open until the next is asked for. Raises OSError if there is no
        descriptor for it: the search begins again, later.
        """
        due, began = self.due, time.monotonic()
        if due is None or began < due:
            return
        self._release(began)
        for cookie, messages in self._next.items():
            self._sought.setdefault(cookie, {}).update(messages)
        self._next = {}
        if not self._sought:
            return
        self._unreachable = {}
        try:
            yield from self._found(began)
        except OSError:
            self._not_before = time.monotonic() + _UNTIL_THERE_MAY_BE_ONE
            raise
        now = time.monotonic()
        self._rest_until = now + (now - began)

    def _found(self, began: float) -> Iterator[tuple[abi.Message, Optional[tuple[int, int]]]]:
        """Yield sockets for a while, root's first; once all have been tried, what was not found."""
        roots = {message.cookie for message in _messages(self._sought) if message.uid == 0}
        found = self._find(self._sought.keys())
        now = time.monotonic()
        until = now + max(_AT_A_TIME, now - began)
        for holder in sorted(found, key=lambda holder: holder.cookie not in roots):
            if holder.cookie not in self._sought:
                continue
            try:
                fd = pidfd.socket_at(*holder)
            except Unreachable as error:
                self._unreachable[holder.cookie] = error
                continue
            if fd is None:
                continue
            try:
                for message in self._sought.pop(holder.cookie).values():
                    yield message, (holder.pid, fd)
            finally:
                os.close(fd)
            if time.monotonic() > until:
                return
        lost, self._sought = self._sought, {}
        for message in _messages(lost):
            why = self._unreachable.get(message.cookie)
            if why is not None and why.errno == errno.EAGAIN:
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


def _messages(wanted: _Wanted) -> Iterator[abi.Message]:
    return (message for messages in wanted.values() for message in messages.values())


def _is_roots(wanted: _Wanted) -> bool:
    return any(message.uid == 0 for message in _messages(wanted))
