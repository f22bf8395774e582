# SPDX-License-Identifier: Apache-2.0
"""The daemon's two streams: events on stdout, steps and troubles on stderr.

Lines begin with the words that other people's scripts look for. A reader that does not
keep up loses lines: users cause them, and a daemon that waited would serve nobody.
"""

from __future__ import annotations

import contextlib
import select
import sys
from collections import Counter
from typing import TextIO

#: Characters of a line: what is certainly taken at once where anything is (PIPE_BUF).
_MOST = 4000
_lost: Counter[TextIO] = Counter()


def event(text: str) -> None:
    """One thing that happened to a group or socket."""
    _say(text, sys.stdout)


def step(text: str) -> None:
    """One step of the daemon's own life, or a trouble."""
    lost = _lost.pop(sys.stderr, 0)
    if lost and not _say(f"{lost} lines were lost here: nobody read them in time", sys.stderr):
        _lost[sys.stderr] += lost - 1
    _say(text, sys.stderr)


def _say(text: str, stream: TextIO) -> bool:
    # nobody may be reading any more: no reason to leave a registration undone
    with contextlib.suppress(OSError, ValueError):
        if select.select([], [stream], [], 0)[1]:
            print(text[:_MOST], file=stream, flush=True)
            return True
    _lost[stream] += 1
    return False
