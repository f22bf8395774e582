# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Deferred messages. They are kept in a map, so the next daemon has them too."""

from __future__ import annotations

import ctypes
import struct
import time
from collections import Counter
from typing import Optional

from udpgrm import abi
from udpgrm.abi import MessageFlag
from udpgrm.kernel import libbpf
from udpgrm.state import layout
from udpgrm.state.maps import Maps

#: Messages of one unprivileged user, and of all such users: the rest is root's.
_PER_USER = 1024
_OF_USERS = layout.MAX_DEFERRED // 2
#: Seconds until a message is handled again that the machine had no room for.
_TRY_AGAIN_AFTER = 1.0


def key_of(message: abi.Message) -> bytes:
    """Return a message's key: the last message of a socket and kind replaces earlier ones."""
    return struct.pack("=QI", message.cookie, message.flags)


class Deferred:
    """All messages that wait: for a program, for a search, or for the machine to have room."""

    def __init__(self, maps: Maps) -> None:
        """Load an earlier daemon's messages, the registration of each socket first."""
        self._map = maps["deferred"]
        size = ctypes.sizeof(abi.Message)
        found = [
            (key, abi.Message.from_buffer_copy(value))
            for key, value in libbpf.map_items(self._map, layout.DEFERRED_KEY_BYTES, size)
        ]
        self._messages = dict(sorted(found, key=lambda item: not item[1].flags & MessageFlag.JOIN))
        self._of = Counter(message.uid for message in self._messages.values())
        #: By key: messages that wait for their group's program (at first, all), and failed ones
        self._unsteered = dict(self._messages)
        self._failed: dict[bytes, abi.Message] = {}
        self._have_failed: set[bytes] = set()
        #: When (monotonic seconds) `take_failed` has something to do; None: it has not
        self.retry_due: Optional[float] = None

    def await_program(self, message: abi.Message) -> None:
        """Keep a message until `take_unsteered`. Raises like `add`."""
        self.add(message)
        self._unsteered[key_of(message)] = message

    def take_unsteered(self) -> list[abi.Message]:
        """Return the messages that waited for a program, to be handled again."""
        taken, self._unsteered = list(self._unsteered.values()), {}
        return taken

    def await_room(self, message: abi.Message) -> bool:
        """Keep a message that the machine had no room for; return whether it is the first time.

        Raises like `add`.
        """
        self.add(message)
        key = key_of(message)
        is_first = key not in self._have_failed
        self._have_failed.add(key)
        self._failed[key] = message
        self.retry_due = time.monotonic() + _TRY_AGAIN_AFTER
        return is_first

    def take_failed(self) -> list[abi.Message]:
        """Return the failed messages, to be handled again now."""
        taken, self._failed, self.retry_due = list(self._failed.values()), {}, None
        return taken

    def is_waiting(self, key: bytes) -> bool:
        """Return whether a message waits here, and not in a search."""
        return key in self._unsteered or key in self._failed

    def add(self, message: abi.Message) -> None:
        """Keep a message. Raises OverflowError if the user's or the global quota is exhausted."""
        key = key_of(message)
        is_new = key not in self._messages
        if is_new and message.uid:
            if self._of[message.uid] >= _PER_USER:
                raise OverflowError(f"uid {message.uid}: {_PER_USER} messages are deferred already")
            if sum(self._of.values()) - self._of[0] >= _OF_USERS:
                raise OverflowError(f"{_OF_USERS} messages of users are deferred already")
        libbpf.map_update(self._map, key, bytes(message))
        if not is_new:  # perhaps of another user's process, which the socket was passed to
            self._of[self._messages[key].uid] -= 1
        self._messages[key] = message
        self._of[message.uid] += 1

    def delete(self, key: bytes) -> None:
        """Delete a message that was served, or that no socket waits for."""
        self._have_failed.discard(key)
        message = self._messages.pop(key, None)
        if message is not None:
            self._of[message.uid] -= 1
            libbpf.map_delete(self._map, key)

    def concerns(self, group_id: int, epoch: int) -> bool:
        """Return whether messages of a group's sockets are deferred."""
        return any(
            (message.group_id, message.epoch) == (group_id, epoch)
            for message in self._messages.values()
        )
