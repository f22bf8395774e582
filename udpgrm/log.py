# SPDX-License-Identifier: Apache-2.0
"""The daemon's two logs: events on stdout, steps and problems on stderr.

Lines begin with the words that scripts for the reference search for. A reader that does not
keep up loses lines: users cause them, and a daemon that waited would not serve its clients.
Where the reader is systemd's journal it gets a line as an entry, with fields (docs/logs.md).
"""

from __future__ import annotations

import contextlib
import select
import sys
from collections import Counter
from typing import Optional, TextIO

from udpgrm import journald
from udpgrm.journald import Entry, Fields, MessageId, Priority

#: Characters of a line: a pipe takes so many at once, or none (PIPE_BUF).
_MOST = 4000
_lost: Counter[TextIO] = Counter()


def event(
    text: str,
    fields: Optional[Fields] = None,
    message_id: Optional[MessageId] = None,
    priority: Priority = Priority.INFO,
) -> None:
    """Log an event of a group, socket or restart."""
    _say(Entry(text, fields or {}, priority, message_id), sys.stdout)


def step(text: str, fields: Optional[Fields] = None) -> None:
    """Log a step of the daemon."""
    _log(Entry(text, fields or {}))


def problem(
    text: str, fields: Optional[Fields] = None, message_id: Optional[MessageId] = None
) -> None:
    """Log a problem, beside the daemon's steps."""
    _log(Entry(text, fields or {}, Priority.WARNING, message_id))


def _log(entry: Entry) -> None:
    lost = _lost.pop(sys.stderr, 0)
    if lost:
        complaint = f"{lost} lines were lost here: the reader was too slow"
        if not _say(Entry(complaint, {}, Priority.WARNING), sys.stderr):
            _lost[sys.stderr] += lost - 1
    _say(entry, sys.stderr)


def _say(entry: Entry, stream: TextIO) -> bool:
    text = entry.text[:_MOST]
    if journald.reads(stream) and journald.send(entry._replace(text=text)):
        return True
    # the reader may be gone: no reason to omit a registration
    with contextlib.suppress(OSError, ValueError):
        if select.select([], [stream], [], 0)[1]:
            print(text, file=stream, flush=True)
            return True
    _lost[stream] += 1
    return False
