# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Messages to serve: root's first, then one of each user (uid) in turn."""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Optional

from udpgrm import abi
from udpgrm.kernel.ringbuf import RingBuffer
from udpgrm.state import layout
from udpgrm.state.maps import Maps


@dataclass
class Item:
    """A message. ring, position: where its record is, unless it was deferred."""

    message: abi.Message
    ring: Optional[Ring] = None
    position: int = 0


class Ring:
    """A ring buffer that is read ahead of what is consumed.

    Records are served in another order than they arrive, and consumed once all before them are:
    the daemon after a killed one finds some that were served already.
    """

    def __init__(self, fd: int) -> None:
        """Begin with the first record that no daemon has consumed."""
        self._ring = RingBuffer(fd, layout.MESSAGE_BYTES)
        #: Ends of the records that were read and not consumed, in order; those served
        self._read: deque[int] = deque()
        self._served: set[int] = set()

    def items(self) -> Iterable[Item]:
        """Return the records that have arrived since the last call."""
        for position, record in self._ring.ahead():
            self._read.append(position)
            if record is not None and len(record) == ctypes.sizeof(abi.Message):
                yield Item(abi.Message.from_buffer_copy(record), self, position)
            else:
                self.served(position)

    def served(self, position: int) -> None:
        """Consume a record, and those after it that were served before it."""
        self._served.add(position)
        while self._read and self._read[0] in self._served:
            end = self._read.popleft()
            self._served.discard(end)
            self._ring.consume(end)


class Inbox:
    """The messages that the daemon has not served."""

    def __init__(self, maps: Maps) -> None:
        """Count the records in the rings, and nothing else, as outstanding."""
        self._maps = maps
        self._rings = [Ring(maps[name]) for name in layout.RINGS]
        #: Messages of each user (uid) but root, in turn
        self._users: dict[int, deque[Item]] = {}
        self._root: deque[Item] = deque()
        self._read()
        self._recount()

    def _recount(self) -> None:
        """Correct the users' counts: a daemon that was killed may have miscounted."""
        outstanding = dict.fromkeys(range(abi.USERS), 0)
        for items in self._users.values():
            for item in items:
                outstanding[abi.user_of(item.message.uid)] += 1
        for number, count in outstanding.items():
            user = self._maps.user(number)
            user.messages_served = user.messages_sent - count

    def add(self, messages: Iterable[abi.Message]) -> None:
        """Add messages that were deferred, to be served again."""
        for message in messages:
            self._put(Item(message))

    def _put(self, item: Item) -> None:
        if item.message.uid == 0:
            self._root.append(item)
        else:
            self._users.setdefault(item.message.uid, deque()).append(item)

    def _read(self) -> None:
        for ring in self._rings:
            for item in ring.items():
                self._put(item)

    @property
    def is_empty(self) -> bool:
        """Return whether all that was read is served."""
        return not self._root and not self._users

    def has_nothing(self) -> bool:
        """Return whether all that was read is served, and nothing has arrived since."""
        self._read()
        return self.is_empty

    def roots(self) -> Optional[Item]:
        """Return root's next message, also a new one; None: there is none."""
        self._read()
        return self._root.popleft() if self._root else None

    def next(self) -> Optional[Item]:
        """Return root's next message, else that of the user whose turn it is; None: no message."""
        item = self.roots()
        if item is not None or not self._users:
            return item
        uid, items = next(iter(self._users.items()))
        item = items.popleft()
        del self._users[uid]
        if items:
            self._users[uid] = items  # to the end
        return item

    def done(self, item: Item) -> None:
        """Release a message's room in its ring and in its user's quota."""
        if item.ring is not None:
            item.ring.served(item.position)
            self._maps.user(abi.user_of(item.message.uid)).messages_served += 1
