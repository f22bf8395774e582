# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Entries with fields for systemd's journal, by its native protocol.

The protocol is at https://systemd.io/JOURNAL_NATIVE_PROTOCOL, the fields are in docs/logs.md.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from enum import Enum, IntEnum
from typing import NamedTuple, Optional, TextIO, Union

#: Where the journal gets entries.
SOCKET = "/run/systemd/journal/socket"

#: Fields by name without UDPGRM_, in lower case; a field that is None is left out.
Fields = Mapping[str, Union[str, int, None]]


class Priority(IntEnum):
    """The priority of an entry: syslog(3)."""

    WARNING = 4
    INFO = 6
    DEBUG = 7


class MessageId(Enum):
    """Entries that programs look for, as MESSAGE_ID: journalctl MESSAGE_ID=..."""

    WORKING_GENERATION = "d61960ccb1074dc1b31e9f4d4aa113de"
    NO_STEERING = "1e9f0f0ab5004b97a414d5ffd22e7f55"
    NOT_REGISTERED = "4679b3f976244d9f84f63e665b99d199"
    RESTART_FINISHED = "186a663a358643a49c67d05f4a0d2c5c"
    RESTART_ROLLED_BACK = "63fe6ce32f364eb4b975e75266bfcf3a"
    RESTART_FAILED = "340d1f7333ef4fdfa5d16abd942a6776"


class Entry(NamedTuple):
    """An entry of the journal."""

    text: str
    fields: Fields
    priority: Priority = Priority.INFO
    message_id: Optional[MessageId] = None

    def encoded(self) -> bytes:
        """Return the entry as the journal reads it."""
        lines = {
            "MESSAGE": self.text,
            "PRIORITY": str(int(self.priority)),
            "SYSLOG_IDENTIFIER": "udpgrm",
        }
        if self.message_id is not None:
            lines["MESSAGE_ID"] = self.message_id.value
        for name, value in self.fields.items():
            if value is not None:
                lines[f"UDPGRM_{name.upper()}"] = str(value)
        return b"".join(_encoded(name, value) for name, value in lines.items())


def reads(stream: TextIO) -> bool:
    """Return whether the journal reads a stream: $JOURNAL_STREAM in systemd.exec(5)."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # the stream is closed, or no file
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def send(entry: Entry) -> bool:
    """Send an entry, and return whether the journal has taken it; a busy one has not."""
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    try:
        with socket.socket(socket.AF_UNIX, kind) as channel:
            channel.sendto(entry.encoded(), SOCKET)
    except OSError:
        return False
    return True


def _encoded(name: str, value: str) -> bytes:
    data = value.encode(errors="replace")
    if b"\n" in data:  # a line of the text would be a field otherwise
        return b"%s\n%s%s\n" % (name.encode(), len(data).to_bytes(8, "little"), data)
    return b"%s=%s\n" % (name.encode(), data)
