# SPDX-License-Identifier: Apache-2.0
"""The daemon's two logs: events on stdout, steps and problems on stderr.

Lines begin with the words that scripts for the reference search for. A reader that does not
keep up loses lines: users cause them, and a daemon that waited would not serve its clients.
"""

from __future__ import annotations

import contextlib
import select
import sys
from collections import Counter
from typing import TextIO

#: Characters of a line: a pipe takes so many at once, or none (PIPE_BUF).
_MOST = 4000
_lost: Counter[TextIO] = Counter()


def event(text: str) -> None:
    """Log an event of a group or socket."""
    _say(text, sys.stdout)


def step(text: str) -> None:
    """Log a step of the daemon, or a problem."""
    lost = _lost.pop(sys.stderr, 0)
    if lost and not _say(f"{lost} lines were lost here: the reader was too slow", sys.stderr):
        _lost[sys.stderr] += lost - 1
    _say(text, sys.stderr)


def _say(text: str, stream: TextIO) -> bool:
    # the reader may be gone: no reason to omit a registration
    with contextlib.suppress(OSError, ValueError):
        if select.select([], [stream], [], 0)[1]:
            print(text[:_MOST], file=stream, flush=True)
            return True
    _lost[stream] += 1
    return False
