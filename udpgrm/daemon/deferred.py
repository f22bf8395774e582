# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Messages that are put off. They lie in a map, so the next daemon has them too."""

from __future__ import annotations

import ctypes
import struct
from collections import Counter

from udpgrm import abi
from udpgrm.abi import MessageFlag
from udpgrm.kernel import libbpf
from udpgrm.state import layout
from udpgrm.state.maps import Maps

#: Of one unprivileged user, and of all of them: the rest is root's.
_PER_USER = 1024
_OF_USERS = layout.MAX_DEFERRED // 2


def key_of(message: abi.Message) -> bytes:
    """The same for what one socket asks for again and again: the last counts."""
    return struct.pack("=QI", message.cookie, message.flags)


class Deferred:
    """All messages that wait for a program or a search."""

    def __init__(self, maps: Maps) -> None:
        """What an earlier daemon has left: of a socket's messages first that of its joining."""
        self._map = maps["deferred"]
        size = ctypes.sizeof(abi.Message)
        found = [
            (key, abi.Message.from_buffer_copy(value))
            for key, value in libbpf.map_items(self._map, layout.DEFERRED_KEY_BYTES, size)
        ]
        self._messages = dict(sorted(found, key=lambda item: not item[1].flags & MessageFlag.JOIN))
        self._of = Counter(message.uid for message in self._messages.values())

    def all(self) -> dict[bytes, abi.Message]:
        """The messages by key."""
        return dict(self._messages)

    def add(self, message: abi.Message) -> None:
        """Keep a message. Raises OverflowError for one too many of a user's, or of all."""
        key = key_of(message)
        is_new = key not in self._messages
        if is_new and message.uid:
            if self._of[message.uid] >= _PER_USER:
                raise OverflowError(f"uid {message.uid}: {_PER_USER} messages are put off already")
            if sum(self._of.values()) - self._of[0] >= _OF_USERS:
                raise OverflowError(f"{_OF_USERS} messages of users are put off already")
        libbpf.map_update(self._map, key, bytes(message))
        self._messages[key] = message
        self._of[message.uid] += is_new

    def forget(self, key: bytes) -> None:
        """A message was served, or nobody waits for it any more."""
        message = self._messages.pop(key, None)
        if message is not None:
            self._of[message.uid] -= 1
            libbpf.map_delete(self._map, key)

    def concerns(self, number: int, epoch: int) -> bool:
        """Whether sockets of a group are put off."""
        return any(
            (message.group, message.epoch) == (number, epoch) for message in self._messages.values()
        )
